"""A store that checks policies and quotas and writes the audit trail."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from dspex.clock import Clock
from dspex.operations.framework.access import Actor
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.audit import AuditEntry
from dspex.operations.framework.json_size import size_of, sizes_of
from dspex.operations.framework.policies import AccessPolicy
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Change, Insert, Store
from dspex.operations.framework.store_wrapper import StoreWrapper

LONGEST: Final = 16 * 1024
_UNAUDITED = {"created_at", "updated_at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """The actor and the action of a write; `policies` limit the rows that it may change."""

    actor: Actor
    name: str
    policies: tuple[AccessPolicy, ...] = ()


class WriteQuotas(Protocol):
    """The quotas of workspaces, as far as writes need them."""

    async def admit(self, workspace: str, *, executes: bool) -> None:
        """Raise unless a workspace may store more, including an execution if `executes`.

        Raises:
            QuotaError: a limit is reached.
            StorageError: the database cannot be read.
        """
        ...

    def charge(self, workspace: str, *, size: int) -> None:
        """Count a write of this number of bytes."""
        ...


class AuditedStore(StoreWrapper):
    """A store for one act.

    It checks the policies of the act and writes audit entries with the changes.
    """

    def __init__(  # the collaborators of every write
        self,
        store: Store,
        *,
        act: Act,
        clock: Clock,
        new_id: Callable[[], UUID],
        on_write: Callable[[Sequence[Change]], None] = lambda _changes: None,
        quotas: WriteQuotas | None = None,
    ) -> None:
        """Take the store to wrap and the act; `on_write` is called with committed changes."""
        super().__init__(store)
        self._quotas = quotas
        self._on_write = on_write
        self._act = act
        self._clock = clock
        self._new_id = new_id

    async def write(self, *changes: Change) -> None:
        """Make all changes and their audit entries in one transaction; see `Store.write`.

        Raises:
            ForbiddenError: a policy forbids the actor to change a row; nothing is written.
            QuotaError: the workspace has used up its quota.
        """
        entries = [entry for change in changes if (entry := await self._entry(change)) is not None]
        if self._quotas is None:
            await self._store.write(*changes, *map(Insert, entries))
        else:
            sizes = self._sizes(changes)
            for workspace in sizes:
                await self._quotas.admit(workspace, executes=False)
            await self._store.write(*changes, *map(Insert, entries))
            for workspace, size in sizes.items():
                self._quotas.charge(workspace, size=size)
        self._on_write(changes)

    async def _entry(self, change: Change) -> AuditEntry | None:
        if isinstance(change, Insert):
            resource = self._store.resource_of(change.entity)
            self._check(change.entity)
            if not resource.is_audited:
                return None
            row = {part.name: getattr(change.entity, part.name) for part in resource.attributes}
            return self._new_entry(
                resource, change.entity.id, before=None, after=_audit_values(resource, row)
            )
        if not change.resource.is_audited and not self._act.policies:
            return None
        existing = await self._store.get(change.resource, id=change.id)
        if existing is not None:
            self._check(existing)
        if not change.resource.is_audited:
            return None
        before = (
            {name: getattr(existing, name) for name in (*change.values, *change.increments)}
            if existing
            else {}
        )
        after = {
            **change.values,
            **{name: before.get(name, 0) + step for name, step in change.increments.items()},
        }
        return self._new_entry(
            change.resource,
            change.id,
            before=_audit_values(change.resource, before),
            after=_audit_values(change.resource, after),
        )

    def _sizes(self, changes: Sequence[Change]) -> Counter[str]:
        """Return the number of bytes that the changes add to each workspace's quota."""
        sizes: Counter[str] = Counter()
        for change in changes:
            if (
                isinstance(change, Insert)
                and (resource := self._store.resource_of(change.entity)).is_counted
            ):
                long = (
                    getattr(change.entity, part.name)
                    for part in resource.attributes
                    if ATTRIBUTE_KINDS[part.kind].is_document
                )
                sizes[change.entity.workspace] += sizes_of(long)
        return sizes

    def _check(self, row: object) -> None:
        for policy in self._act.policies:
            policy.require_row(self._act.actor, self._act.name, row)

    def _new_entry(
        self,
        resource: Resource[Any],
        key: UUID,
        *,
        before: dict[str, Any] | None,
        after: dict[str, Any],
    ) -> AuditEntry:
        now = self._clock.now()
        return AuditEntry(
            id=self._new_id(),
            workspace=self._act.actor.workspace,
            created_at=now,
            updated_at=now,
            actor=self._act.actor.name,
            action=self._act.name,
            resource=resource.name,
            resource_id=key,
            before=before,
            after=after,
        )


def _audit_values(resource: Resource[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON, with placeholders for hidden values and the size of long ones."""
    visible = {
        name: value
        for name, value in values.items()
        if name not in _UNAUDITED and name not in {"id", "workspace"}
    }
    return {
        name: "(hidden)" if name in resource.hidden else _plain(value)
        for name, value in visible.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, dict | list) and (size := size_of(value)) > LONGEST:
        return f"({size} bytes)"
    return value.isoformat() if isinstance(value, datetime) else value
