"""A program as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec

from dspex.error_text import shorten
from dspex.errors import DefinitionError, VariableError
from dspex.language.programs.node import Node
from dspex.language.records.canonical import content_hash
from dspex.language.signatures import Signature
from dspex.language.variables import Assignment, Space
from dspex.language.variables.sampling import explain_refusal
from dspex.notebook import lazy_html

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Program:
    """A definition (signature, tree of nodes, space of variables) and an assignment.

    `assignment` maps variable names to JSON values and overrides the definition. Programs with
    equal contents have equal `content_hash`es on every machine.
    """

    name: str
    signature: Signature
    root: Node
    space: Space = field(default_factory=Space)
    assignment: Assignment = field(default_factory=dict)

    def assign(self, values: Assignment) -> "Program":
        """Return the program with new values for some variables.

        Raises:
            VariableError: a variable is unknown, a value has the wrong kind, or a constraint
                rejects the assignment; the message suggests an allowed one, if any.
        """
        assigned = {**self.assignment, **self.space.normalize(values)}
        if self.space.constraints:
            try:
                self.space.complete(
                    {name: value for name, value in assigned.items() if name in self.space}
                )
            except VariableError as error:
                raise explain_refusal(self.space, error) from error
        return replace(self, assignment=assigned)

    def variables(self) -> Space:
        """Return the space of its variables."""
        return self.space

    def by_place(self) -> dict[str, Any]:
        """Return the assigned values by path.

        An assigned name that is not a variable of the space is itself a path and overrides
        variables.

        Raises:
            VariableError: a constraint rejects the assignment.
        """
        variables = {name: value for name, value in self.assignment.items() if name in self.space}
        places = {name: value for name, value in self.assignment.items() if name not in variables}
        return {**dict(self.space.bound(variables)), **places}

    def definition(self) -> dict[str, Any]:
        """Return everything except the assignment as JSON-ready data."""
        return {
            "format": FORMAT,
            "name": self.name,
            "signature": self.signature.to_dict(),
            "root": self.root.to_dict(),
            "space": self.space.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the program as JSON-ready data; `from_dict` is its inverse."""
        return {"definition": self.definition(), "assignment": dict(self.assignment)}

    def to_json(self) -> str:
        """Return the program as JSON text."""
        return msgspec.json.encode(self.to_dict()).decode()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Program":
        """Read what `to_dict` wrote.

        Raises:
            DefinitionError: `data` has another format, or is from a later version of dspex.
        """
        try:
            definition, assignment = data["definition"], data["assignment"]
            if definition["format"] != FORMAT:
                raise DefinitionError(
                    f"the program has format {definition['format']!r}; this dspex reads format "
                    f"{FORMAT}: update dspex"
                )
            return cls(
                name=definition["name"],
                signature=Signature.from_dict(definition["signature"]),
                root=Node.from_dict(definition["root"]),
                space=Space.from_dict(definition.get("space", [])),
                assignment=assignment,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DefinitionError(
                f"this is not a stored program ({type(error).__name__}: {error}): {shorten(data)}"
            ) from error

    @classmethod
    def from_json(cls, text: str | bytes) -> "Program":
        """Read what `to_json` wrote."""
        try:
            return cls.from_dict(msgspec.json.decode(text))
        except msgspec.DecodeError as error:
            raise DefinitionError(
                f"this is not a stored program: it is not JSON: {error}"
            ) from error

    _repr_html_ = lazy_html("dspex.language.programs.representation:program_html")

    @cached_property
    def content_hash(self) -> str:
        """BLAKE2b-256 over the canonical JSON of definition and assignment, without the name."""
        definition = {key: value for key, value in self.definition().items() if key != "name"}
        return content_hash({"definition": definition, "assignment": dict(self.assignment)})
