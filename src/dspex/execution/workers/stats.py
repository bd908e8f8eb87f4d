"""What a pool says about itself at one moment."""

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
    """One pool and its workers. `failed` counts calls that workers lost or did not answer, not errors they answered."""

    name: str
    breaker: BreakerState
    queued: int
    answered: int
    failed: int
    rejected: int
    restarts: int
    workers: tuple[WorkerStats, ...] = ()
