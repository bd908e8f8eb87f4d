"""Finds recursive types that cannot be validated in linear time.

A value is tried against each alternative of a union in turn. If two alternatives lead back to the
union through the same part of the value, that part is validated twice, its parts four times, and so
on: such a union needs a tag.
"""

from collections.abc import Iterator, Mapping

from dspex.errors import SignatureError
from dspex.language.signatures.types import Type

_ITEMS, _VALUES = "its items", "its values"
_PAIR = frozenset({"key", "value"})


def check_recursion(type_: Type, where: str) -> None:
    """Raise unless values of `type_` can be validated in linear time.

    Raises:
        SignatureError: two alternatives of a union lead back to it through one part of a value.
    """
    pending: list[tuple[Type, Mapping[str, Type]]] = [(type_, {})]
    while pending:
        part, enclosing = pending.pop()
        if part.kind == "union" and enclosing and part.constraint("tag") is None:
            _check_union(part, enclosing, where)
        if part.kind == "object":
            enclosing = {**enclosing, part.title: part}
        pending.extend((inner, enclosing) for inner in part.args)
        pending.extend((member.type, enclosing) for member in part.members)


def has_open_reference(type_: Type, enclosing: frozenset[str] = frozenset()) -> bool:
    """Whether `type_` refers to an object that is neither inside it nor in `enclosing`."""
    if type_.kind == "ref":
        return type_.title not in enclosing
    within = enclosing | {type_.title} if type_.kind == "object" else enclosing
    return any(
        has_open_reference(part, within)
        for part in [*type_.args, *(member.type for member in type_.members)]
    )


def _check_union(union: Type, enclosing: Mapping[str, Type], where: str) -> None:
    entries: dict[str, str] = {}
    for part in union.args:
        name = part.title or part.kind
        for entry in set(_entries(part, enclosing)):
            first = next(
                (entries[key] for key in _equivalent_entries(entry, entries, enclosing)), None
            )
            if first is not None:
                raise SignatureError(
                    f"{where}: {first} and {name} both lead back to an enclosing object through "
                    f"{entry!r}, and nothing distinguishes them. Give each object of the union a "
                    "member with a different text, and name it: (A{kind: Literal['a'], ...} | "
                    "B{kind: Literal['b'], ...})[tag='kind']",
                    constraint="tag",
                )
        entries |= dict.fromkeys(_entries(part, enclosing), name)


def _equivalent_entries(
    entry: str, entries: Mapping[str, str], enclosing: Mapping[str, Type]
) -> Iterator[str]:
    """Yield those of `entries` that can be the same part of a value as `entry`."""
    for candidate in entries:
        if entry == candidate or (
            _VALUES in {entry, candidate} and _ITEMS not in {entry, candidate}
        ):
            yield candidate
        elif {entry, candidate} == {_ITEMS, _VALUES} and any(map(_is_pair, enclosing.values())):
            yield candidate  # a list of pairs is read as a mapping


def _is_pair(type_: Type) -> bool:
    return {member.name for member in type_.members} >= _PAIR


def _entries(part: Type, enclosing: Mapping[str, Type]) -> Iterator[str]:
    """Yield the parts of a value of `part` through which it leads back to an enclosing object."""
    if part.kind == "ref" and part.title in enclosing:
        yield from (
            member.name
            for member in enclosing[part.title].members
            if has_open_reference(member.type)
        )
    elif part.kind == "object":
        within = frozenset({part.title})
        yield from (
            member.name for member in part.members if has_open_reference(member.type, within)
        )
    elif part.kind == "union":
        for arg in part.args:
            yield from _entries(arg, enclosing)
    elif part.args and has_open_reference(part):
        yield _VALUES if part.kind == "dict" else _ITEMS
