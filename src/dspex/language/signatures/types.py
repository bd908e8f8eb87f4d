"""Types of fields as data: equal types compare equal, in whatever notation they were written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dspex.error_text import suggest
from dspex.errors import SignatureError
from dspex.language.signatures.kinds import ALIASES, CONSTRAINT_ALIASES, KINDS
from dspex.language.signatures.rules import check_rule, check_together


class Missing:
    """The type of `MISSING`, which means no default (None can be a default)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __copy__(self) -> "Missing":
        return self

    def __deepcopy__(self, _: object) -> "Missing":
        return self


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object type.

    A member that is not required and has no default may be absent. A default is JSON data.
    """

    name: str
    type: "Type"
    desc: str = ""
    is_required: bool = True
    default: Any = field(default=MISSING, hash=False)


@dataclass(frozen=True, slots=True)
class Type:
    """A kind, its arguments and its constraints.

    `list`, `tuple` and `dict` have their element types in `args`, a `union` its members in the
    order in which they are tried. An `object` has a `title` and `members`; a `ref` inside it names
    an enclosing object by `title`. `python` is the user's class, if there is one: validation
    creates its instances. It is not compared, so that a type rebuilt from data equals the original.
    """

    kind: str
    args: tuple["Type", ...] = ()
    constraints: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    title: str = ""
    members: tuple[Member, ...] = ()
    python: Any = field(default=None, compare=False, repr=False)
    # constraints compare by text: in Python 1, 1.0 and True are equal, in a contract they differ
    key: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.constraints:
            object.__setattr__(
                self,
                "key",
                repr(self.constraints) if self.kind != "any" else _canonical_text(self.constraints),
            )

    def constraint(self, name: str) -> Any:
        """Return the value of one constraint, or None if it is not set."""
        return dict(self.constraints).get(name)

    @property
    def is_optional(self) -> bool:
        """Whether None is one of its values."""
        return self.kind == "none" or (
            self.kind == "union" and any(arg.is_optional for arg in self.args)
        )

    @property
    def has_classes(self) -> bool:
        """Whether validation creates instances of user classes, at any depth."""
        parts = (*self.args, *(member.type for member in self.members))
        return self.python is not None or any(part.has_classes for part in parts)


def _canonical_text(constraints: tuple[tuple[str, Any], ...]) -> str:
    """Return the text of constraints with a schema, independent of the order of keys."""
    return json.dumps(constraints, sort_keys=True)


def make(
    name: str,
    *args: Type,
    constraints: Mapping[str, Any] | None = None,
    python: Any = None,
) -> Type:
    """Check and return a type of one registered kind.

    Raises:
        SignatureError: the kind is unknown, it has too many arguments, or a constraint is unknown
            or has a wrong value. `context["constraint"]` names that constraint.
    """
    kind = ALIASES.get(name, name)
    if kind not in KINDS or kind == "ref":
        raise SignatureError(unknown_type(name))
    rules = _check_constraints(kind, constraints or {})
    if len(args) > KINDS[kind].arity:
        raise SignatureError(
            f"type {kind!r} takes at most {KINDS[kind].arity} type arguments, not {len(args)}"
        )
    if kind == "dict" and len(args) == 1:
        raise SignatureError(
            "type 'dict' takes two type arguments, for keys and values: dict[str, int]"
        )
    if kind == "dict" and args:
        _check_key(args[0])
    if kind == "str" and "choices" in rules:
        kind, rules = (
            "atom",
            {"one_of": rules["choices"], **{k: v for k, v in rules.items() if k != "choices"}},
        )
        rules = _check_constraints("atom", rules)
    if kind == "atom" and not rules:
        raise SignatureError(
            "type 'atom' needs its values: atom[one_of=['a', 'b']] or Literal['a', 'b']"
        )
    if kind == "atom" and None in rules["one_of"]:
        others = [value for value in rules["one_of"] if value is not None]
        return (
            union(make("atom", constraints={"one_of": others}, python=python), make("none"))
            if others
            else Type("none")
        )
    if kind == "union":
        return constrained_union(union(*args), rules)
    return Type(kind, args, tuple(sorted(rules.items())), python=python)


def unknown_type(name: str) -> str:
    """Return the message about an unknown type."""
    names = [kind for kind in KINDS if kind not in {"ref", "union", "object", "none"}]
    return (
        f"unknown type {name!r}.{suggest(name, [*names, *ALIASES])} Types are: {', '.join(names)}"
    )


def _check_constraints(kind: str, constraints: Mapping[str, Any]) -> dict[str, Any]:
    rule_kinds = KINDS[kind].constraints
    rules: dict[str, Any] = {}
    for word, value in constraints.items():
        name = CONSTRAINT_ALIASES.get(word, word) if word not in rule_kinds else word
        if name not in rule_kinds:
            names = ", ".join(rule_kinds) or "none"
            raise SignatureError(
                f"type {kind!r} has no constraint {word!r}.{suggest(word, list(rule_kinds))} Its "
                f"constraints are: {names}",
                constraint=word,
            )
        if name in rules:
            raise SignatureError(f"constraint {name!r} is given twice", constraint=word)
        rules[name] = check_rule(kind, name, rule=rule_kinds[name], value=value)
    check_together(kind, rules)
    # a constraint that is off is dropped, so that equal types compare equal
    return {name: value for name, value in rules.items() if value is not False}


def _check_key(key: Type) -> None:
    is_text = key.kind == "str" or (
        key.kind == "atom" and all(isinstance(value, str) for value in key.constraint("one_of"))
    )
    if not is_text and not (key.kind == "int" and not key.constraints):
        raise SignatureError(
            "the keys of a dict are str (with or without constraints), int, or a choice of strings"
        )


def union(*members: Type) -> Type:
    """Return the union of `members`: flat, in order, without duplicates."""
    flat: dict[Type, None] = {}
    for member in members:
        parts = member.args if member.kind == "union" and not member.constraints else (member,)
        flat.update(dict.fromkeys(parts))
    if not flat:
        raise SignatureError("a union needs types: int | str")
    return next(iter(flat)) if len(flat) == 1 else Type("union", tuple(flat))


def constrained_union(type_: Type, rules: Mapping[str, Any]) -> Type:
    """Return a union with its constraints: the tag of its objects, and whether null is explicit."""
    if "tag" in rules:
        type_ = tagged(type_, rules["tag"])
    if not rules.get("required"):
        return type_
    if type_.kind != "union" or not type_.is_optional:
        raise SignatureError(
            "required=true needs a union with none: (int | none)[required=true]",
            constraint="required",
        )
    return Type(
        "union", type_.args, tuple(sorted({**dict(type_.constraints), "required": True}.items()))
    )


def tagged(type_: Type, tag: str) -> Type:
    """Return the union of objects that the member `tag` distinguishes.

    Raises:
        SignatureError: a member of the union is not an object, or its tag is missing, is not a
            choice of strings, or is not unique.
    """
    if type_.kind != "union":
        raise SignatureError(f"tag={tag!r} needs a union of at least two objects", constraint="tag")
    parts = tuple(arg for arg in type_.args if arg.kind != "none")
    if len(parts) < len(type_.args):
        return union(tagged(Type("union", parts), tag), Type("none"))
    texts: set[str] = set()
    for arg in parts:
        values = tag_values(arg, tag)
        if not values or texts & set(values):
            raise SignatureError(
                f"tag={tag!r}: each object of the union needs a required member {tag!r} with "
                f"unique values, such as {tag}: Literal['cat']; {arg.title or arg.kind!r} has none",
                constraint="tag",
            )
        texts |= set(values)
    return Type("union", type_.args, (("tag", tag),))


def tag_values(type_: Type, tag: str) -> tuple[str, ...]:
    """Return the values of member `tag` of an object, or none if it is not a choice of strings."""
    for member in type_.members:
        if member.name == tag and member.type.kind == "atom" and type_.kind == "object":
            values = member.type.constraint("one_of")
            return values if all(isinstance(value, str) for value in values) else ()
    return ()


def is_typed_dict(hint: object) -> bool:
    """Whether `hint` is a TypedDict, of the standard library or of typing_extensions."""
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def object_type(
    title: str,
    members: tuple[Member, ...],
    *,
    constraints: Mapping[str, Any] | None = None,
    python: Any = None,
) -> Type:
    """Return an object type with `members`, whose names must be unique."""
    names: set[str] = set()
    for member in members:
        if member.name in names:
            raise SignatureError(
                f"object {title!r} has two members named {member.name!r}", member=member.name
            )
        names.add(member.name)
    rules = _check_constraints("object", constraints or {})
    return Type("object", (), tuple(sorted(rules.items())), title, members, python)


def standalone_members(type_: Type) -> list[Member]:
    """Return the members of an object with each reference to it replaced by the whole object."""
    return [replace(member, type=_fill_reference(member.type, type_)) for member in type_.members]


def _fill_reference(type_: Type, whole: Type) -> Type:
    if type_.kind == "ref" and type_.title == whole.title:
        return whole
    if type_.kind == "object" and type_.title == whole.title:  # the name means this object inside
        return type_
    args = tuple(_fill_reference(arg, whole) for arg in type_.args)
    members = tuple(
        replace(member, type=_fill_reference(member.type, whole)) for member in type_.members
    )
    if args == type_.args and members == type_.members:
        return type_
    # a class resolves its annotations itself; a generic type is rebuilt from its arguments
    return replace(
        type_, args=args, members=members, python=type_.python if type_.kind == "object" else None
    )
