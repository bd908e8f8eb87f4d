"""Which workers are alive: each sends heartbeats, and notices when others stop."""

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError
from dspex.operations.framework.heartbeats import HeartbeatWatch
from dspex.operations.framework.store import Query, Store, Update
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.jobs.records import JOB_WORKER, JobWorkerRecord


class WorkerRegistry:
    """Sends the heartbeat of one worker, and declares silent workers dead.

    An observer (`me` is None) sends none. Clocks are never compared: a worker is dead when this
    process has watched it for `dead_after` seconds without a heartbeat. Time in which it could not
    watch, because it or the database stood still, does not count.
    """

    def __init__(
        self, store: Store, *, policy: JobPolicy, clock: Clock, me: UUID | None = None
    ) -> None:
        """Take the collaborators; `me` is the id of this worker."""
        self._store = store
        self._policy = policy
        self._clock = clock
        self._me = me
        self._watch: HeartbeatWatch[UUID] = HeartbeatWatch(clock, longest_look=2 * policy.beat)
        self.alive: frozenset[UUID] = frozenset()

    async def tick(self) -> bool:
        """Send a heartbeat and check the others; return whether this worker counts as alive.

        Raises:
            StorageError: the database cannot be reached; nothing was decided.
        """
        if self._me is not None and not await self._beat(self._me):
            return False
        rows = await self._store.select(JOB_WORKER, Query(where={"status": "alive"}, limit=1000))
        self.alive = frozenset(row.id for row in rows)
        others = [row for row in rows if row.id != self._me]
        silence = self._watch.look({row.id: row.beats for row in others})
        for row in others:
            if silence[row.id] >= self._policy.dead_after:
                await self._declare_dead(row)
        return True

    async def _beat(self, me: UUID) -> bool:
        beat = Update(
            resource=JOB_WORKER,
            id=me,
            values={"updated_at": self._clock.now()},
            increments={"beats": 1},
            statuses=("alive",),
        )
        try:
            await self._store.write(beat)
        except (ConflictError, NotFoundError):
            return False
        return True

    async def _declare_dead(self, row: JobWorkerRecord) -> None:
        dead = Update(
            resource=JOB_WORKER,
            id=row.id,
            values={"status": JOB_WORKER.step("bury", row.status)},
            statuses=("alive",),
            expected={"beats": row.beats},
        )
        with suppress(ConflictError):  # it has sent a heartbeat, or another process was faster
            await self._store.write(dead)


def new_worker_row(
    me: UUID,
    *,
    clock: Clock,
    host: str,
    pid: int,
    queues: list[str],
    code: Callable[[], tuple[str, str]],
) -> JobWorkerRecord:
    """Return the row of a new worker."""
    now, (name, revision) = clock.now(), code()
    return JobWorkerRecord(
        id=me,
        workspace="default",
        created_at=now,
        updated_at=now,
        host=host,
        pid=pid,
        queues=list(queues),
        code=name,
        revision=revision,
    )
