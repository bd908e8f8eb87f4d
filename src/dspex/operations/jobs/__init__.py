"""Durable jobs: rows that a handler elsewhere works on, in any process, until they have ended once.

It knows no domain work, and nothing of storage. DBOS is known to `tickets` alone and imported when
a worker starts.
"""

from dspex.operations.jobs.handler import Done, Handler, JobRun
from dspex.operations.jobs.job_child import JobChild
from dspex.operations.jobs.job_monitor import JobMonitor, WorkerProcess
from dspex.operations.jobs.job_rows import JobRows
from dspex.operations.jobs.leftovers import Leftovers
from dspex.operations.jobs.orphan_sweeper import OrphanSweeper
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.jobs.queued_engine import QueuedJobs
from dspex.operations.jobs.runner import JobRunner
from dspex.operations.jobs.worker import JobWorker, WorkerConfig
from dspex.operations.jobs.worker_registry import WorkerRegistry

__all__ = [
    "Done",
    "Handler",
    "JobChild",
    "JobMonitor",
    "JobPolicy",
    "JobRows",
    "JobRun",
    "JobRunner",
    "JobWorker",
    "Leftovers",
    "OrphanSweeper",
    "QueuedJobs",
    "WorkerConfig",
    "WorkerProcess",
    "WorkerRegistry",
]
