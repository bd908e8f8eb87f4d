"""The composition root: from settings to services. Nothing else constructs storage; only surfaces import it."""

from dspex.bootstrap.backends import WORKERS, dspy_bridge, open_backends
from dspex.bootstrap.checking import checked_settings
from dspex.bootstrap.jobs import attended, run_job_process, run_worker
from dspex.bootstrap.opening import DATABASE, database_of, domain_of, examine_database, migrate_database
from dspex.bootstrap.services import Services, new_id, open_services

__all__ = [
    "DATABASE",
    "WORKERS",
    "Services",
    "attended",
    "checked_settings",
    "database_of",
    "domain_of",
    "dspy_bridge",
    "examine_database",
    "migrate_database",
    "new_id",
    "open_backends",
    "open_services",
    "run_job_process",
    "run_worker",
]
