"""Storage quotas of workspaces."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from dspex.clock import Clock
from dspex.error_text import quantity
from dspex.errors import ConflictError, NotFoundError, QuotaError
from dspex.operations.framework.access import DEFAULT_WORKSPACE
from dspex.operations.framework.store import Insert, Store, Update
from dspex.operations.tenancy.records import WORKSPACE
from dspex.operations.tenancy.usage import WORKSPACE_USAGE, WorkspaceUsageRecord, usage_id

MIB: Final = 1024 * 1024
CACHE_SIZE: Final = 4096
_FRESH_NS: Final = 1_000_000_000
_NEAR: Final = 0.9
_NEAR_FRESH_NS: Final = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The number of executions and the MiB that a workspace may store; 0 means unlimited."""

    executions: int = 0
    mib: int = 0


@dataclass(slots=True)
class _Balance:
    """The usage of one workspace as read at `read_ns`, plus what this process wrote since."""

    quota: Quota
    executions: float
    stored_bytes: float
    read_ns: int

    def is_fresh(self, now_ns: int) -> bool:
        age = now_ns - self.read_ns
        return age <= _FRESH_NS and (age <= _NEAR_FRESH_NS or self._share() < _NEAR)

    def _share(self) -> float:
        quota = self.quota
        return max(
            self.executions / quota.executions if quota.executions else 0.0,
            self.stored_bytes / (quota.mib * MIB) if quota.mib else 0.0,
        )


class Quotas:
    """Counts what workspaces store and enforces their quotas.

    The counters are database rows. A process accumulates its writes and synchronizes with the
    counters once a second, or twenty times a second near a limit. Servers on one database can
    therefore exceed a limit by what the others write in between, and a killed process loses the
    counts of its last second.
    """

    def __init__(self, store: Store, *, clock: Clock, default: Quota | None = None) -> None:
        """Take the store and the default quota of workspaces."""
        self._store = store
        self._clock = clock
        self._default = default or Quota()
        self._balances: OrderedDict[str, _Balance] = OrderedDict()
        self._pending: dict[str, tuple[int, int]] = {}

    async def admit(self, workspace: str, *, executes: bool = True) -> None:
        """Raise unless a workspace may store more, including an execution if `executes`.

        Raises:
            QuotaError: a limit is reached; `limit` names it.
            StorageError: the database cannot be read.
        """
        balance = self._balances.get(workspace)
        if balance is None or not balance.is_fresh(self._clock.monotonic_ns()):
            balance = await self._read(workspace)
        quota = balance.quota
        if quota.mib and balance.stored_bytes >= quota.mib * MIB:
            raise _quota_error(
                workspace, "quota_mib", f"{balance.stored_bytes / MIB:.1f} MiB", quota.mib
            )
        if executes and quota.executions and balance.executions >= quota.executions:
            raise _quota_error(
                workspace,
                "quota_executions",
                quantity(round(balance.executions), "execution"),
                quota.executions,
            )

    def charge(self, workspace: str, *, executions: int = 0, size: int = 0) -> None:
        """Count a write; the counters in the database follow within a second."""
        count, total = self._pending.get(workspace, (0, 0))
        self._pending[workspace] = (count + executions, total + size)
        balance = self._balances.get(workspace)
        if balance is not None:
            balance.executions += executions
            balance.stored_bytes += size

    async def flush(self) -> None:
        """Write the pending counts to the database.

        Raises:
            StorageError: the database cannot be written; the counts are kept for the next call.
        """
        for workspace in list(self._pending):
            await self._flush(workspace)

    async def _flush(self, workspace: str) -> None:
        pending = self._pending.pop(workspace, None)
        if pending is None:
            return
        change = usage_change(workspace, executions=pending[0], size=pending[1])
        try:
            try:
                await self._store.write(change)
            except NotFoundError:
                await self._add_counters(workspace)
                await self._store.write(change)
        except BaseException:
            count, total = self._pending.get(workspace, (0, 0))
            self._pending[workspace] = (count + pending[0], total + pending[1])
            raise

    async def _read(self, workspace: str) -> _Balance:
        await self._flush(workspace)
        read_ns = self._clock.monotonic_ns()
        row = await self._store.get(
            WORKSPACE_USAGE, id=usage_id(workspace)
        ) or await self._add_counters(workspace)
        quota = await self._quota(workspace)
        count, total = self._pending.get(workspace, (0, 0))
        balance = _Balance(quota, row.executions + count, row.stored_bytes + total, read_ns)
        self._balances[workspace] = balance
        self._balances.move_to_end(workspace)
        while len(self._balances) > CACHE_SIZE:
            self._balances.popitem(last=False)
        return balance

    async def _quota(self, workspace: str) -> Quota:
        if workspace == DEFAULT_WORKSPACE:
            return self._default
        record = await self._store.get(WORKSPACE, name=workspace)
        if record is None:
            return self._default
        return Quota(
            executions=self._default.executions
            if record.quota_executions is None
            else record.quota_executions,
            mib=self._default.mib if record.quota_mib is None else record.quota_mib,
        )

    async def _add_counters(self, workspace: str) -> WorkspaceUsageRecord:
        now = self._clock.now()
        row = WorkspaceUsageRecord(
            id=usage_id(workspace), workspace=workspace, created_at=now, updated_at=now
        )
        try:
            await self._store.write(Insert(row))
        except ConflictError:  # another process added it first
            return await self._store.get(WORKSPACE_USAGE, id=row.id) or row
        return row


def usage_change(workspace: str, *, executions: int = 0, size: int = 0) -> Update:
    """Return the change that increments (or decrements) the counters of a workspace."""
    increments = {"executions": executions, "stored_bytes": size}
    return Update(resource=WORKSPACE_USAGE, id=usage_id(workspace), increments=increments)


def _quota_error(workspace: str, limit: str, amount: str, maximum: int) -> QuotaError:  # noqa: PLR0917
    remedy = (
        "delete old executions (keep_days, keep_count) or documents, or ask an operator for a "
        "larger quota"
    )
    return QuotaError(
        f"the workspace {workspace!r} stores {amount}, and its {limit} is {maximum}: {remedy}",
        limit=limit,
    )
