"""A snapshot of a pool and its workers."""

import msgspec

from dspex.execution.workers.breaker import BreakerState


class WorkerStats(msgspec.Struct, frozen=True, kw_only=True):
    """One worker. `memory` is in bytes; `role` is "serving" or "spare"."""

    name: str
    state: str
    role: str
    pid: int | None
    memory: int
    busy: int
    served: int
    restarts: int
    reason: str = ""


class PoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """One pool and its workers. `failed` counts calls without a reply, not errors in replies."""

    name: str
    breaker: BreakerState
    queued: int
    answered: int
    failed: int
    rejected: int
    restarts: int
    workers: tuple[WorkerStats, ...] = ()
