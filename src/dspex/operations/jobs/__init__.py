"""Durable jobs: rows that a handler elsewhere works on, in any process, until they have ended once.

It knows no domain work, and nothing of storage. DBOS is known to `tickets` alone and imported when a worker starts.
"""

from dspex.operations.jobs.handler import Done, Handler, JobRun
from dspex.operations.jobs.inline import InlineEngine
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.jobs.runner import Runner

__all__ = ["Done", "Handler", "InlineEngine", "JobPolicy", "JobRun", "Runner"]
