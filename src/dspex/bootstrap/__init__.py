"""The composition root: from settings to services. Nothing else constructs storage; only surfaces import it."""

from dspex.bootstrap.backends import WORKERS, open_backends
from dspex.bootstrap.services import DATABASE, Services, examine_database, new_id, open_services

__all__ = ["DATABASE", "WORKERS", "Services", "examine_database", "new_id", "open_backends", "open_services"]
