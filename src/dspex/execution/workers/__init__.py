"""Supervised worker processes: code that may crash, hang, leak or block runs in them, and its failures stay there.

A `Pool` holds workers of one kind, a `Supervisor` keeps them running, `WorkerSpec` says what they run. May be imported
by `backends` and what lies above.
"""

from dspex.execution.workers.breaker import BreakerConfig
from dspex.execution.workers.connection import Caller
from dspex.execution.workers.pool import Loading, Pool, PoolConfig
from dspex.execution.workers.restarts import Backoff, Intensity
from dspex.execution.workers.spec import WorkerSpec
from dspex.execution.workers.stats import PoolStats, WorkerStats
from dspex.execution.workers.supervisor import Child, ChildSpec, Policy, Supervisor
from dspex.execution.workers.worker import Worker

__all__ = [
    "Backoff",
    "BreakerConfig",
    "Caller",
    "Child",
    "ChildSpec",
    "Intensity",
    "Loading",
    "Policy",
    "Pool",
    "PoolConfig",
    "PoolStats",
    "Supervisor",
    "Worker",
    "WorkerSpec",
    "WorkerStats",
]
