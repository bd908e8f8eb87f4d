"""Supervised worker processes: isolate code that may crash, hang, leak or block.

A `Pool` holds workers of one kind, a `WorkerSupervisor` keeps them running, `WorkerSpec` describes
what they run. May be imported by `backends` and the rooms above it.
"""

from dspex.execution.workers.breaker import BreakerConfig
from dspex.execution.workers.connection import CallHandler
from dspex.execution.workers.pool import LoadRequest, Pool, PoolConfig
from dspex.execution.workers.restarts import Backoff, Intensity
from dspex.execution.workers.spec import WorkerSpec
from dspex.execution.workers.stats import PoolStats, WorkerStats
from dspex.execution.workers.supervisor import Child, ChildSpec, RestartPolicy, WorkerSupervisor
from dspex.execution.workers.worker import PoolWorker

__all__ = [
    "Backoff",
    "BreakerConfig",
    "CallHandler",
    "Child",
    "ChildSpec",
    "Intensity",
    "LoadRequest",
    "Pool",
    "PoolConfig",
    "PoolStats",
    "PoolWorker",
    "RestartPolicy",
    "WorkerSpec",
    "WorkerStats",
    "WorkerSupervisor",
]
