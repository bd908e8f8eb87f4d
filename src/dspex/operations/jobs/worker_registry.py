"""Which workers live: each shows that it does, and sees who does not any more."""

from collections.abc import Callable
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError
from dspex.operations.framework.heartbeats import HeartbeatWatch
from dspex.operations.framework.store import Query, Store, Update
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.jobs.records import JOB_WORKER, JobWorkerRecord


class WorkerRegistry:
    """Shows that one worker lives, and declares others dead that stand still.

    A mere observer shows none. No two clocks are compared: a worker is dead when this process
    itself has looked on for `dead_after` seconds and seen no beat. Time in which it could not look
    (its own stop, a database that was away) does not count.
    """

    def __init__(
        self, store: Store, *, policy: JobPolicy, clock: Clock, me: UUID | None = None
    ) -> None:
        """Take the id of this worker's life."""
        self._store = store
        self._policy = policy
        self._clock = clock
        self._me = me
        self._watch: HeartbeatWatch[UUID] = HeartbeatWatch(clock, longest_look=2 * policy.beat)
        self.dead_workers: list[UUID] = []

    async def tick(self) -> bool:
        """Beat, and look at the others; return whether this worker still counts as alive.

        Raises:
            StorageError: the database cannot be reached; nothing was decided.
        """
        if self._me is not None and not await self._beat(self._me):
            return False
        rows = await self._store.select(JOB_WORKER, Query(where={"status": "alive"}, limit=1000))
        others = [row for row in rows if row.id != self._me]
        silence = self._watch.look({row.id: row.beats for row in others})
        for row in others:
            if silence[row.id] >= self._policy.dead_after:
                await self._bury(row)
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

    async def _bury(self, row: JobWorkerRecord) -> None:
        dead = Update(
            resource=JOB_WORKER,
            id=row.id,
            values={"status": JOB_WORKER.step("bury", row.status)},
            statuses=("alive",),
            expected={"beats": row.beats},
        )
        try:
            await self._store.write(dead)
        except ConflictError:
            return  # it has shown itself, or another survivor was faster
        self.dead_workers.append(row.id)


def new_worker_row(
    me: UUID,
    *,
    clock: Clock,
    host: str,
    pid: int,
    queues: list[str],
    code: Callable[[], tuple[str, str]],
) -> JobWorkerRecord:
    """Return the row of a worker that begins its life."""
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
