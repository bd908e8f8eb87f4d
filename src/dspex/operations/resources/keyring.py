"""Who holds which API key: checked against the store, remembered for a moment."""

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import NotFoundError
from dspex.operations.resources.access import DEFAULT_WORKSPACE, SCOPES, Actor
from dspex.operations.resources.ports import Query, Store, Update
from dspex.operations.resources.tenancy import API_KEY, WORKSPACE, ApiKeyRecord
from dspex.operations.resources.vault import Vault, key_id_of

if TYPE_CHECKING:
    from datetime import datetime

FRESH_NS: Final = 1_000_000_000
REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who was let in by a key, and what the key allows: calls a minute, calls at once (None: as the server says)."""

    actor: Actor
    key_id: UUID
    requests_per_minute: int | None
    concurrency: int | None


@dataclass(slots=True)
class _Seen:
    text: str
    read_ns: int
    record: ApiKeyRecord
    holder: Holder | None


class KeyRing:
    """Checks API keys.

    A key is read from the store at most once a second, so that a revoked, rotated or expired key ends everywhere within
    a second. When keys were used is kept in memory and written by `flush`: a request costs no write.
    """

    def __init__(self, store: Store, vault: Vault, *, clock: Clock) -> None:
        """Take the store behind all actors."""
        self._store = store
        self._vault = vault
        self._clock = clock
        self._seen: OrderedDict[UUID, _Seen] = OrderedDict()
        self._used: dict[UUID, datetime] = {}

    async def holder(self, text: str) -> Holder | None:
        """Return who holds this key; None where it is no key, revoked, expired, or its workspace is archived.

        Raises:
            StorageError: the database cannot be read.
        """
        key_id = key_id_of(text)
        if key_id is None:
            return None
        now = self._clock.now()
        entry = self._seen.get(key_id)
        if entry is None or entry.text != text or self._clock.monotonic_ns() - entry.read_ns > FRESH_NS:
            entry = await self._read(key_id, text)
        if entry is None or entry.holder is None:
            return None
        if entry.record.expires_at is not None and entry.record.expires_at <= now:
            return None
        self._used[key_id] = now
        return entry.holder

    async def exists(self) -> bool:
        """Return whether any active key is stored."""
        return await self._store.count(API_KEY, {"status": "active"}) > 0

    async def flush(self) -> None:
        """Write when each key was last used; what cannot be written now is kept for the next time.

        Raises:
            StorageError: the database cannot be written.
        """
        for key_id, moment in list(self._used.items()):
            change = Update(resource=API_KEY, id=key_id, values={"last_used_at": moment})
            with suppress(NotFoundError):  # another database was put in the place of this one
                await self._store.write(change)
            if self._used.get(key_id) == moment:
                del self._used[key_id]

    async def _read(self, key_id: UUID, text: str) -> _Seen | None:
        read_ns = self._clock.monotonic_ns()
        record = await self._store.get(API_KEY, id=key_id)
        # What does not match is not remembered: guesses about a key do not push its holder out.
        if record is None or not self._vault.matches(text, record.hash):
            return None
        is_open = record.status == "active" and await self._is_open(record.workspace)
        entry = _Seen(text, read_ns, record, _holder(record) if is_open else None)
        self._seen[key_id] = entry
        self._seen.move_to_end(key_id)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return entry

    async def _is_open(self, workspace: str) -> bool:
        if workspace == DEFAULT_WORKSPACE:
            return True
        rows = await self._store.select(WORKSPACE, Query(where={"name": workspace, "status": "active"}, limit=1))
        return bool(rows)


def _holder(record: ApiKeyRecord) -> Holder:
    scopes = frozenset(scope for scope in SCOPES if scope in record.scopes)
    limits: dict[str, Any] = record.limits
    return Holder(
        actor=Actor(name=record.name, workspace=record.workspace, scopes=scopes, key_id=record.id),
        key_id=record.id,
        requests_per_minute=limits.get("requests_per_minute"),
        concurrency=limits.get("concurrency"),
    )
