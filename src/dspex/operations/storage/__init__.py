"""SQL behind the ports of `framework`, `events` and `jobs`; the domain is handed in.

Only `bootstrap` and tests construct what is here. What imports SQLAlchemy is imported at its first
use, because commands that only list rows take half as long without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dspex.operations.storage.database import Database
from dspex.operations.storage.event_log import SQLEventLog
from dspex.operations.storage.migration import HEAD, migrate, require_head, revision
from dspex.operations.storage.store import SQLStore

if TYPE_CHECKING:
    from dspex.operations.storage.collections import SQLCollections
    from dspex.operations.storage.custom_tables import ensure_tables
    from dspex.operations.storage.figures import SQLFigures
    from dspex.operations.storage.journal import SQLJournal
    from dspex.operations.storage.leftovers import SQLLeftovers
    from dspex.operations.storage.removals import SQLRemovals
    from dspex.operations.storage.tables import metadata_of

__all__ = [
    "HEAD",
    "Database",
    "SQLCollections",
    "SQLEventLog",
    "SQLFigures",
    "SQLJournal",
    "SQLLeftovers",
    "SQLRemovals",
    "SQLStore",
    "ensure_tables",
    "metadata_of",
    "migrate",
    "require_head",
    "revision",
]
_MODULES = {
    "SQLCollections": "collections",
    "SQLFigures": "figures",
    "SQLJournal": "journal",
    "SQLLeftovers": "leftovers",
    "SQLRemovals": "removals",
    "ensure_tables": "custom_tables",
    "metadata_of": "tables",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
