"""Durable jobs: rows that a handler elsewhere works on, in any process, until they have ended once.

It knows no domain work, and nothing of storage. DBOS is known to `tickets` alone and imported when
a worker starts.
"""

from dspex.operations.jobs.handler import Done, Handler, JobRun
from dspex.operations.jobs.inline_engine import InlineEngine
from dspex.operations.jobs.job_child import JobChild
from dspex.operations.jobs.job_monitor import Attendant, WorkerProcess
from dspex.operations.jobs.job_rows import JobRows
from dspex.operations.jobs.leftovers import Leftovers
from dspex.operations.jobs.orphan_sweeper import Sweeper
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.jobs.queued_engine import QueuedJobs
from dspex.operations.jobs.runner import Runner
from dspex.operations.jobs.worker import Worker, WorkerConfig
from dspex.operations.jobs.worker_registry import Survey

__all__ = [
    "Attendant",
    "Done",
    "Handler",
    "InlineEngine",
    "JobChild",
    "JobPolicy",
    "JobRows",
    "JobRun",
    "Leftovers",
    "QueuedJobs",
    "Runner",
    "Survey",
    "Sweeper",
    "Worker",
    "WorkerConfig",
    "WorkerProcess",
]
