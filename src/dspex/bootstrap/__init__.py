"""The composition root: makes the services from the settings.

Only it constructs storage; only surfaces import it.
"""

from dspex.bootstrap.backends import WORKERS, dspy_bridge, open_backends
from dspex.bootstrap.checks import checked_settings
from dspex.bootstrap.database import (
    DATABASE,
    database_of,
    domain_of,
    examine_database,
    migrate_database,
)
from dspex.bootstrap.jobs import run_executions, run_job_process, run_worker, watch_jobs
from dspex.bootstrap.services import Services, new_id, open_services

__all__ = [
    "DATABASE",
    "WORKERS",
    "Services",
    "checked_settings",
    "database_of",
    "domain_of",
    "dspy_bridge",
    "examine_database",
    "migrate_database",
    "new_id",
    "open_backends",
    "open_services",
    "run_executions",
    "run_job_process",
    "run_worker",
    "watch_jobs",
]
