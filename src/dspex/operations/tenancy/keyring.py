"""Checks API keys against the store, with a short cache."""

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import NotFoundError
from dspex.operations.framework.access import DEFAULT_WORKSPACE, SCOPES, Actor
from dspex.operations.framework.store import Query, Store, Update
from dspex.operations.tenancy.records import API_KEY, WORKSPACE, ApiKeyRecord
from dspex.operations.tenancy.vault import Vault, key_id_of

if TYPE_CHECKING:
    from datetime import datetime

FRESH_NS: Final = 1_000_000_000
CACHE_SIZE: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The actor of an API key and the limits of the key (None: the server's default)."""

    actor: Actor
    key_id: UUID
    requests_per_minute: int | None
    concurrency: int | None


@dataclass(slots=True)
class _CachedKey:
    text: str
    read_ns: int
    record: ApiKeyRecord
    holder: Holder | None


class KeyRing:
    """Checks API keys.

    A key is cached for at most one second, so a revoked, rotated or expired key stops working
    everywhere within a second. The last use of each key is kept in memory and written by `flush`,
    so that requests do not cost a write.
    """

    def __init__(self, store: Store, vault: Vault, *, clock: Clock) -> None:
        """Take the store of all workspaces."""
        self._store = store
        self._vault = vault
        self._clock = clock
        self._cache: OrderedDict[UUID, _CachedKey] = OrderedDict()
        self._last_used: dict[UUID, datetime] = {}

    async def holder(self, text: str) -> Holder | None:
        """Return the holder of a key, or None if the key does not count.

        It does not if it is invalid, revoked or expired, or its workspace archived.

        Raises:
            StorageError: the database cannot be read.
        """
        key_id = key_id_of(text)
        if key_id is None:
            return None
        now = self._clock.now()
        entry = self._cache.get(key_id)
        if (
            entry is None
            or entry.text != text
            or self._clock.monotonic_ns() - entry.read_ns > FRESH_NS
        ):
            entry = await self._read(key_id, text)
        if entry is None or entry.holder is None:
            return None
        if entry.record.expires_at is not None and entry.record.expires_at <= now:
            return None
        self._last_used[key_id] = now
        return entry.holder

    async def exists(self) -> bool:
        """Return whether an active key exists."""
        return await self._store.count(API_KEY, {"status": "active"}) > 0

    async def flush(self) -> None:
        """Write the last use of each key; keep what cannot be written for the next call.

        Raises:
            StorageError: the database cannot be written.
        """
        for key_id, moment in list(self._last_used.items()):
            change = Update(resource=API_KEY, id=key_id, values={"last_used_at": moment})
            with suppress(NotFoundError):  # the database was replaced by another one
                await self._store.write(change)
            if self._last_used.get(key_id) == moment:
                del self._last_used[key_id]

    async def _read(self, key_id: UUID, text: str) -> _CachedKey | None:
        read_ns = self._clock.monotonic_ns()
        record = await self._store.get(API_KEY, id=key_id)
        # Mismatches are not cached: guessed keys must not evict real holders.
        if record is None or not self._vault.matches(text, record.hash):
            return None
        is_open = record.status == "active" and await self._is_open(record.workspace)
        entry = _CachedKey(text, read_ns, record, _holder(record) if is_open else None)
        self._cache[key_id] = entry
        self._cache.move_to_end(key_id)
        while len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return entry

    async def _is_open(self, workspace: str) -> bool:
        if workspace == DEFAULT_WORKSPACE:
            return True
        rows = await self._store.select(
            WORKSPACE, Query(where={"name": workspace, "status": "active"}, limit=1)
        )
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
