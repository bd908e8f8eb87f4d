"""The stored resources with their states, the actions on them, and the ports that storage implements.

Each resource is described once; tables, API types and documentation are derived from it.
"""

from dspex.operations.resources.access import LOCAL, Actor
from dspex.operations.resources.actions import Action
from dspex.operations.resources.domain import DOMAIN, Domain
from dspex.operations.resources.execution import ExecutionRecord
from dspex.operations.resources.inputs import CreateProgram, ExecuteProgram
from dspex.operations.resources.operations import Floor, Operations
from dspex.operations.resources.ports import Insert, Query, Store, Update
from dspex.operations.resources.recorded import RecordedModule
from dspex.operations.resources.resource import Resource

__all__ = [
    "DOMAIN",
    "LOCAL",
    "Action",
    "Actor",
    "CreateProgram",
    "Domain",
    "ExecuteProgram",
    "ExecutionRecord",
    "Floor",
    "Insert",
    "Operations",
    "Query",
    "RecordedModule",
    "Resource",
    "Store",
    "Update",
]
