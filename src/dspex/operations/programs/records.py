"""Stored programs and their versions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from dspex.failures import without_frames
from dspex.operations.framework.resource import Resource, Row, Transition

ProgramStatus = Literal["draft", "initializing", "ready", "error", "archived"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRecord(Row):
    """A named program; its definition is in its current version."""

    name: str
    status: ProgramStatus
    signature_id: UUID
    current_version_id: UUID | None
    module: str
    backend: str
    configuration: dict[str, Any]
    execution_count: int = 0
    last_executed_at: datetime | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramVersionRecord(Row):
    """One immutable version of a program."""

    program_id: UUID
    number: int
    content_hash: str
    definition: dict[str, Any]
    assignment: dict[str, Any]
    parent_id: UUID | None = None
    made_by: str = "user"


PROGRAM = Resource(
    name="program",
    plural="programs",
    entity=ProgramRecord,
    transitions={
        "initialize": Transition(("draft", "error"), "initializing"),
        "become_ready": Transition(("initializing",), "ready"),
        "fail": Transition(("draft", "initializing", "ready"), "error"),
        "execute": Transition(("ready",), "ready"),
        "archive": Transition(("ready",), "archived"),
        "reopen": Transition(("archived",), "ready"),
    },
    references={"signature_id": "signature"},
    pointers={"current_version_id": "program_version"},
    unique=(("workspace", "name"),),
    redactions={"error": without_frames},
)
PROGRAM_VERSION = Resource(
    name="program_version",
    plural="program_versions",
    entity=ProgramVersionRecord,
    references={"program_id": "program"},
    owner="program_id",
    unique=(("program_id", "number"),),
)


SignatureStatus = Literal["draft", "active", "deprecated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRecord(Row):
    """A stored signature; `definition` is the output of `Signature.to_dict`."""

    name: str
    version: int
    status: SignatureStatus
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    instructions: str
    content_hash: str
    source: str
    definition: dict[str, Any]


SIGNATURE = Resource(
    name="signature",
    plural="signatures",
    entity=SignatureRecord,
    transitions={
        "activate": Transition(("draft",), "active"),
        "deprecate": Transition(("active",), "deprecated"),
    },
    unique=(("workspace", "name", "version"),),
    unsorted=("instructions",),
)
