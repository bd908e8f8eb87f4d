"""What dspex keeps: resources with states, the actions on them, and the ports that storage fills.

One description of each resource; tables, API types and documentation are derived from it.
"""

from dspex.operations.resources.actions import ACTIONS, Action, Operations
from dspex.operations.resources.domain import DOMAIN, Domain
from dspex.operations.resources.entities import ExecutionRecord, ProgramRecord, SignatureRecord
from dspex.operations.resources.inputs import CreateProgram, ExecuteProgram
from dspex.operations.resources.ports import Insert, Query, Store, Update
from dspex.operations.resources.recorded import RecordedModule
from dspex.operations.resources.resource import Resource

__all__ = [
    "ACTIONS",
    "DOMAIN",
    "Action",
    "CreateProgram",
    "Domain",
    "ExecuteProgram",
    "ExecutionRecord",
    "Insert",
    "Operations",
    "ProgramRecord",
    "Query",
    "RecordedModule",
    "Resource",
    "SignatureRecord",
    "Store",
    "Update",
]
