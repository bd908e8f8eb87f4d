"""The list of all resources."""

from collections.abc import Iterator, Mapping
from typing import Any

from dspex.operations.resources.entities import ExecutionRecord, ProgramRecord, ProgramVersionRecord, SignatureRecord
from dspex.operations.resources.resource import Resource, Transition


class Domain(Mapping[str, Resource[Any]]):
    """Resources by name, in an order in which no resource refers to a later one but by a nullable attribute."""

    def __init__(self, *resources: Resource[Any]) -> None:
        self._resources = {resource.name: resource for resource in resources}

    def __getitem__(self, name: str) -> Resource[Any]:
        return self._resources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)

    def of(self, entity: type) -> Resource[Any]:
        """Return the resource whose rows are of class `entity`."""
        return next(resource for resource in self._resources.values() if resource.entity is entity)


SIGNATURE = Resource(
    name="signature",
    plural="signatures",
    entity=SignatureRecord,
    transitions={
        "activate": Transition(("draft",), "active"),
        "deprecate": Transition(("active",), "deprecated"),
    },
    unique=(("workspace", "name", "version"),),
    hidden=("workspace", "lock_version"),
)
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
    },
    references={"signature_id": "signature"},
    pointers={"current_version_id": "program_version"},
    unique=(("workspace", "name"),),
    hidden=("workspace", "lock_version"),
)
PROGRAM_VERSION = Resource(
    name="program_version",
    plural="program_versions",
    entity=ProgramVersionRecord,
    references={"program_id": "program"},
    unique=(("program_id", "number"),),
    hidden=("workspace", "lock_version"),
)
EXECUTION = Resource(
    name="execution",
    plural="executions",
    entity=ExecutionRecord,
    transitions={
        "start": Transition(("pending",), "running"),
        "complete": Transition(("running",), "completed"),
        "fail": Transition(("pending", "running"), "failed"),
        "cancel": Transition(("pending", "running"), "cancelled"),
        "interrupt": Transition(("pending", "running"), "interrupted"),
    },
    references={"program_id": "program", "program_version_id": "program_version"},
    indexes=(("program_id", "created_at"), ("workspace", "created_at"), ("status",)),
    hidden=("workspace", "lock_version"),
)
DOMAIN = Domain(SIGNATURE, PROGRAM, PROGRAM_VERSION, EXECUTION)
