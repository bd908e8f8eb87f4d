"""Usage counters of workspaces, so that checking a quota does not scan rows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from dspex.operations.resources.resource import Resource, Row

_NAMESPACE: Final = UUID("5d1f3c9e-0a58-4b53-9d58-6f2a1c1a7c11")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceUsageRecord(Row):
    """The number of executions and the bytes of JSON that a workspace has stored.

    The bytes cover inputs, outputs, errors, traces, rows of data sets, and definitions. Retention
    decreases the counters; events and the audit trail are not counted.
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


def size_of(value: Any) -> int:
    """Return the size of a value as JSON; 0 if it has no JSON form, which the database rejects."""
    if value is None:
        return 0
    try:
        return len(_encode(value))
    except (
        UnicodeEncodeError,
        OverflowError,
    ):  # half of a surrogate pair, a number of more than 64 bits: stored, too
        return _length(value)
    except (TypeError, ValueError, RecursionError):
        return 0


def sizes_of(values: Iterable[Any]) -> int:
    """Return how many bytes values take together, each as JSON of its own: they are encoded at once."""
    present = [value for value in values if value is not None]
    if not present:
        return 0
    try:
        return len(_encode(present)) - len(present) - 1  # without the list's brackets and commas
    except (TypeError, ValueError, OverflowError, RecursionError):
        return sum(map(size_of, present))


def _length(value: object) -> int:
    try:
        return len(json.dumps(value, separators=(",", ":"), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return 0
