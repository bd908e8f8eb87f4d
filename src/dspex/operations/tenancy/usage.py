"""Usage counters of workspaces, so that checking a quota does not scan rows."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from dspex.operations.framework.resource import Resource, Row

_NAMESPACE: Final = UUID("5d1f3c9e-0a58-4b53-9d58-6f2a1c1a7c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceUsageRecord(Row):
    """The number of executions and the bytes that a workspace has stored.

    The bytes cover inputs, outputs, errors, traces, rows of data sets, definitions, and the
    documents and vectors of collections. Retention and deletion decrease the counters; events and
    the audit trail are not counted.
    """

    executions: int = 0
    stored_bytes: float = 0.0


WORKSPACE_USAGE = Resource(
    name="workspace_usage",
    plural="workspace_usages",
    entity=WorkspaceUsageRecord,
    unique=(("workspace",),),
    is_audited=False,
)


def usage_id(workspace: str) -> UUID:
    """Return the id of the usage row of a workspace, derived from its name."""
    return uuid5(_NAMESPACE, workspace)
