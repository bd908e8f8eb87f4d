"""Stored signatures."""

from dataclasses import dataclass
from typing import Any, Literal

from dspex.operations.resources.resource import Resource, Row, Transition

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
