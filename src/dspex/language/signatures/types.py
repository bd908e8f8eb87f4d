"""What a field's value may be, as data: equal types compare equal, whatever they were written as."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, NotRequired

from dspex.errors import SignatureError, suggest
from dspex.language.signatures.kinds import ALIASES, KINDS


@dataclass(frozen=True, slots=True)
class Member:
    """A field of an object type."""

    name: str
    type: "Type"
    desc: str = ""
    is_required: bool = True
    default: Any = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Type:
    """A kind, its arguments and its constraints.

    `list` and `dict` hold their element types in `args`, a `union` its members in the order in which they are tried;
    an `object` has a `title` and `members`. `python` is the user's own class where there is one: values are made as its
    instances, and it takes no part in comparison, so that a type rebuilt from data equals the one it came from.
    """

    kind: str
    args: tuple["Type", ...] = ()
    constraints: tuple[tuple[str, Any], ...] = ()
    title: str = ""
    members: tuple[Member, ...] = ()
    python: Any = field(default=None, compare=False, repr=False)

    def constraint(self, name: str) -> Any:  # noqa: ANN401  # any JSON value
        """Return the value of one constraint, None where it is not set."""
        return dict(self.constraints).get(name)

    @property
    def is_optional(self) -> bool:
        """Whether None is among its values."""
        return self.kind == "none" or (self.kind == "union" and any(arg.kind == "none" for arg in self.args))


def make(name: str, *args: Type, constraints: Mapping[str, Any] | None = None) -> Type:
    """Return the type of one registered kind, checked.

    Raises:
        SignatureError: the kind, the number of its arguments or one of its constraints does not exist.
    """
    kind = ALIASES.get(name, name)
    if kind not in KINDS:
        raise SignatureError(
            f"there is no type {name!r}.{suggest(name, [*KINDS, *ALIASES])} Types are: {', '.join(KINDS)}"
        )
    allowed = KINDS[kind]
    for constraint in constraints or {}:
        if constraint not in allowed.constraints:
            known = ", ".join(allowed.constraints) or "none"
            hint = suggest(constraint, allowed.constraints)
            raise SignatureError(f"type {kind!r} has no constraint {constraint!r}.{hint} Its constraints are: {known}")
    if len(args) > allowed.arity:
        raise SignatureError(f"type {kind!r} takes {allowed.arity} type arguments, not {len(args)}")
    return Type(kind, args, tuple(sorted((constraints or {}).items())))


def union(*members: Type) -> Type:
    """Return the union of `members`, flattened, without repetition, in order."""
    flat: list[Type] = []
    for member in members:
        flat.extend(part for part in (member.args if member.kind == "union" else (member,)) if part not in flat)
    return flat[0] if len(flat) == 1 else Type("union", tuple(flat))


def annotation(type_: Type) -> Any:  # noqa: ANN401  # an annotation is any object
    """Return the Python annotation that pydantic validates `type_` by."""
    if type_.python is not None:
        return type_.python
    match type_.kind:
        case "list":
            made: Any = list[annotation(type_.args[0])] if type_.args else list  # type: ignore[misc]
        case "dict":
            made = dict[tuple(annotation(arg) for arg in type_.args)] if type_.args else dict  # type: ignore[misc]
        case "union":
            made = reduce(or_, (annotation(arg) for arg in type_.args))
        case "atom":
            made = Literal[tuple(type_.constraint("one_of"))]
        case "object":
            made = _object(type_)
        case kind:
            made = KINDS[kind].python
    rules = {name: value for name, value in type_.constraints if name != "one_of"}
    return _constrained(made, rules) if rules else made


def _constrained(made: Any, rules: Mapping[str, Any]) -> Any:  # noqa: ANN401
    from pydantic import Field

    renamed = {"min_items": "min_length", "max_items": "max_length", "min_size": "min_length", "max_size": "max_length"}
    return Annotated[made, Field(**{renamed.get(name, name): value for name, value in rules.items()})]


def _object(type_: Type) -> Any:  # noqa: ANN401
    """Build a model class from data, so that nested values have attributes without the code that declared them."""
    from pydantic import Field, create_model

    fields: dict[str, Any] = {
        member.name: (
            annotation(member.type),
            Field(description=member.desc or None)
            if member.is_required
            else Field(member.default, description=member.desc or None),
        )
        for member in type_.members
    }
    return create_model(type_.title or "Object", **fields)


def is_enum(python: object) -> bool:
    """Whether `python` is an enumeration class."""
    return isinstance(python, type) and issubclass(python, enum.Enum)


def typed_dict(name: str, fields: Mapping[str, tuple[Any, bool]]) -> Any:  # noqa: ANN401
    """Return a TypedDict with `fields`: name to (annotation, required). Any field name is legal in it."""
    from typing_extensions import TypedDict

    return TypedDict(name, {key: hint if required else NotRequired[hint] for key, (hint, required) in fields.items()})  # type: ignore[operator]
