"""One parameter of a program that may take other values."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from dspex.errors import VariableError, shorten

VariableKind = Literal["text", "examples"]
KINDS: tuple[str, ...] = get_args(VariableKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A named value of one kind, bound to one or more places of a program.

    A path leads to a module as in dspy (`answer`, `steps[0]`, `d['k']`, `self` for the root) and ends in a slot
    (`instructions`, `demos`). A variable that was declared in no other way is named by its path.
    """

    name: str
    kind: VariableKind
    paths: tuple[str, ...]
    default: Any = None

    def check(self, value: object) -> None:
        """Refuse a value that is not of this kind.

        Raises:
            VariableError: naming the variable and what it takes.
        """
        if self.kind == "text" and not isinstance(value, str):
            raise VariableError(f"variable {self.name!r} takes text, not {shorten(value)}")
        if self.kind == "examples":
            rows = value if isinstance(value, list | tuple) else None
            if rows is None or not all(isinstance(row, dict) for row in rows):
                raise VariableError(f"variable {self.name!r} takes a list of examples (dicts), not {shorten(value)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the variable as JSON-ready data."""
        return {"name": self.name, "kind": self.kind, "paths": list(self.paths), "default": self.default}
