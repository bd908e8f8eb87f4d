"""Durable jobs: rows that a handler elsewhere works on, in any process, until they have ended once.

It knows no domain work, and nothing of storage. DBOS is known to `tickets` alone and imported when
a worker starts.
"""

from dspex.operations.jobs.attendant import Attendant, WorkerProcess
from dspex.operations.jobs.forgetting import Leftovers
from dspex.operations.jobs.handler import Done, Handler, JobRun
from dspex.operations.jobs.inline import InlineEngine
from dspex.operations.jobs.job_child import JobChild
from dspex.operations.jobs.job_rows import JobRows
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.jobs.queued import QueuedJobs
from dspex.operations.jobs.runner import Runner
from dspex.operations.jobs.survey import Survey
from dspex.operations.jobs.sweeper import Sweeper
from dspex.operations.jobs.worker import Worker, WorkerConfig

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
