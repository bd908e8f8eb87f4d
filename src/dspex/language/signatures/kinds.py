"""The table of types: their names, what they are in Python, and the constraints that each of them has."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row of the table. `arity` is the greatest number of type arguments."""

    python: Any
    arity: int = 0
    constraints: tuple[str, ...] = ()


_NUMBER = ("ge", "gt", "le", "lt", "multiple_of")

KINDS: dict[str, Kind] = {
    "str": Kind(python=str, constraints=("min_length", "max_length", "pattern")),
    "int": Kind(python=int, constraints=_NUMBER),
    "float": Kind(python=float, constraints=_NUMBER),
    "bool": Kind(python=bool),
    "atom": Kind(python=str, constraints=("one_of",)),
    "any": Kind(python=Any),
    "none": Kind(python=None),
    "list": Kind(python=list, arity=1, constraints=("min_items", "max_items")),
    "dict": Kind(python=dict, arity=2, constraints=("min_size", "max_size")),
    "union": Kind(python=None, arity=64),
    "object": Kind(python=None),
}

ALIASES = {"string": "str", "integer": "int", "boolean": "bool", "map": "dict", "None": "none", "Any": "any"}
