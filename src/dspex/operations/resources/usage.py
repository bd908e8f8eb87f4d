"""What each workspace has stored: counted with what is written, so that a quota costs no look at the rows."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from dspex.operations.resources.resource import Resource, Row

_NAMESPACE: Final = UUID("5d1f3c9e-0a58-4b53-9d58-6f2a1c1a7c11")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceUsageRecord(Row):
    """How many executions a workspace has stored, and how many bytes of JSON.

    These are inputs, outputs, errors and traces, rows of data sets, and definitions. What retention deletes is no
    longer counted; events and the audit trail never are.
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
    """Return the id of the row of a workspace: it follows from the name, so that nobody has to look for it."""
    return uuid5(_NAMESPACE, workspace)


def size_of(value: Any) -> int:  # noqa: ANN401  # any JSON value
    """Return how many bytes a value takes as JSON, 0 where it has no JSON form: the database refuses it then."""
    if value is None:
        return 0
    try:
        return len(_encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return 0
