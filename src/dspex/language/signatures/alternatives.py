"""Selects the member of a union that a value belongs to, by the value's keys."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from dspex.language.signatures.builtin import expand
from dspex.language.signatures.types import Type

ALL: Final = "*"  # the label for "try every member"
_NEVER_OBJECTS: Final = frozenset(
    {"str", "int", "float", "bool", "atom", "none", "binary", "list", "tuple"}
)


def can_be_picked(parts: list[Type]) -> bool:
    """Whether the keys of an object can select one of `parts`.

    Two or more parts must be objects, and no other part may accept an object.
    """
    objects = [part for part in parts if part.kind == "object"]
    return len(objects) > 1 and all(
        part.python is None if part.kind == "object" else expand(part).kind in _NEVER_OBJECTS
        for part in parts
    )


def picker(labels: Mapping[str, Type]) -> Callable[[Any], str]:
    """Return a function from a value to the label of the object type that it matches.

    It returns `ALL` if several match. If none matches, it returns the closest one, whose errors
    then report what is missing.
    """
    shapes = [
        (
            label,
            frozenset(member.name for member in part.members if member.is_required),
            frozenset(member.name for member in part.members),
        )
        for label, part in labels.items()
        if part.kind == "object"
    ]

    def pick(value: Any) -> str:
        if type(value) is not dict:
            return ALL
        keys = value.keys()
        fitting = [label for label, required, _ in shapes if required <= keys]
        if fitting:
            return fitting[0] if len(fitting) == 1 else ALL
        label, _, _ = max(
            shapes, key=lambda shape: (len(shape[1] & keys), len(shape[2] & keys) - len(shape[2]))
        )
        return label

    return pick
