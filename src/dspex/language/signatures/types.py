"""What a field's value may be, as data: equal types compare equal, whatever they were written as."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dspex.errors import SignatureError, suggest
from dspex.language.signatures.kinds import ALIASES, CONSTRAINT_ALIASES, KINDS
from dspex.language.signatures.rules import check_rule, check_together


class Missing:
    """The type of `MISSING`: there is no default (None may be one)."""

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
    """A field of an object type.

    One that is not required and has no default may be absent from the value. A default is JSON data.
    """

    name: str
    type: "Type"
    desc: str = ""
    is_required: bool = True
    default: Any = field(default=MISSING, hash=False)


@dataclass(frozen=True, slots=True)
class Type:
    """A kind, its arguments and its constraints.

    `list`, `tuple` and `dict` hold their element types in `args`, a `union` its members in the order in which they are
    tried; an `object` has a `title` and `members`, and a `ref` inside it names an enclosing object by `title`.
    `python` is the user's own class where there is one: values are made as its instances, and it takes no part in
    comparison, so that a type rebuilt from data equals the one it came from.
    """

    kind: str
    args: tuple["Type", ...] = ()
    constraints: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    title: str = ""
    members: tuple[Member, ...] = ()
    python: Any = field(default=None, compare=False, repr=False)
    # constraints are compared by their text: to Python 1, 1.0 and True are equal, to a contract they are not
    key: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.constraints:
            object.__setattr__(
                self, "key", repr(self.constraints) if self.kind != "any" else _canonical_text(self.constraints)
            )

    def constraint(self, name: str) -> Any:  # noqa: ANN401  # any JSON value
        """Return the value of one constraint, None where it is not set."""
        return dict(self.constraints).get(name)

    @property
    def is_optional(self) -> bool:
        """Whether None is among its values."""
        return self.kind == "none" or (self.kind == "union" and any(arg.is_optional for arg in self.args))


def _canonical_text(constraints: tuple[tuple[str, Any], ...]) -> str:
    """Return the text of constraints that hold a schema, in which the order of names means nothing."""
    return json.dumps(constraints, sort_keys=True)


def make(name: str, *args: Type, constraints: Mapping[str, Any] | None = None, python: Any = None) -> Type:  # noqa: ANN401
    """Return the type of one registered kind, checked.

    Raises:
        SignatureError: the kind, the number of its arguments or one of its constraints does not exist, or a constraint
            has a value that it cannot have. `context["constraint"]` names the constraint at fault.
    """
    kind = ALIASES.get(name, name)
    if kind not in KINDS or kind == "ref":
        raise SignatureError(unknown_type(name))
    rules = _check_constraints(kind, constraints or {})
    if len(args) > KINDS[kind].arity:
        raise SignatureError(f"type {kind!r} takes at most {KINDS[kind].arity} type arguments, not {len(args)}")
    if kind == "dict" and len(args) == 1:
        raise SignatureError("type 'dict' takes two type arguments, of its keys and of its values: dict[str, int]")
    if kind == "dict" and args:
        _check_key(args[0])
    if kind == "str" and "choices" in rules:
        kind, rules = "atom", {"one_of": rules["choices"], **{k: v for k, v in rules.items() if k != "choices"}}
        rules = _check_constraints("atom", rules)
    if kind == "atom" and not rules:
        raise SignatureError("type 'atom' needs its values: atom[one_of=['a', 'b']] or Literal['a', 'b']")
    if kind == "atom" and None in rules["one_of"]:
        others = [value for value in rules["one_of"] if value is not None]
        return (
            union(make("atom", constraints={"one_of": others}, python=python), make("none")) if others else Type("none")
        )
    if kind == "union":
        return constrained_union(union(*args), rules)
    return Type(kind, args, tuple(sorted(rules.items())), python=python)


def unknown_type(name: str) -> str:
    """Return what to say about a type that does not exist."""
    names = [kind for kind in KINDS if kind not in {"ref", "union", "object", "none"}]
    return f"there is no type {name!r}.{suggest(name, [*names, *ALIASES])} Types are: {', '.join(names)}"


def _check_constraints(kind: str, constraints: Mapping[str, Any]) -> dict[str, Any]:
    rule_kinds = KINDS[kind].constraints
    rules: dict[str, Any] = {}
    for word, value in constraints.items():
        name = CONSTRAINT_ALIASES.get(word, word) if word not in rule_kinds else word
        if name not in rule_kinds:
            names = ", ".join(rule_kinds) or "none"
            raise SignatureError(
                f"type {kind!r} has no constraint {word!r}.{suggest(word, list(rule_kinds))} "
                f"Its constraints are: {names}",
                constraint=word,
            )
        if name in rules:
            raise SignatureError(f"constraint {name!r} is given twice", constraint=word)
        rules[name] = check_rule(kind, name, rule=rule_kinds[name], value=value)
    check_together(kind, rules)
    # a rule that is off is no rule, so that two spellings of one type are equal
    return {name: value for name, value in rules.items() if value is not False}


def _check_key(key: Type) -> None:
    is_text = key.kind == "str" or (
        key.kind == "atom" and all(isinstance(value, str) for value in key.constraint("one_of"))
    )
    if not is_text and not (key.kind == "int" and not key.constraints):
        raise SignatureError("the keys of a dict are str (with or without constraints), int, or a choice of texts")


def union(*members: Type) -> Type:
    """Return the union of `members`, flattened, without repetition, in order."""
    flat: dict[Type, None] = {}
    for member in members:
        parts = member.args if member.kind == "union" and not member.constraints else (member,)
        flat.update(dict.fromkeys(parts))
    if not flat:
        raise SignatureError("a union needs types: int | str")
    return next(iter(flat)) if len(flat) == 1 else Type("union", tuple(flat))


def constrained_union(type_: Type, rules: Mapping[str, Any]) -> Type:
    """Return a union with its constraints: the member that tells its objects apart, whether null must be given."""
    if "tag" in rules:
        type_ = tagged(type_, rules["tag"])
    if not rules.get("required"):
        return type_
    if type_.kind != "union" or not type_.is_optional:
        raise SignatureError(
            "required=true needs a union with none: (int | none)[required=true]", constraint="required"
        )
    return Type("union", type_.args, tuple(sorted({**dict(type_.constraints), "required": True}.items())))


def tagged(type_: Type, tag: str) -> Type:
    """Return the union of objects whose member `tag` tells them apart.

    Raises:
        SignatureError: a member of the union is no object, or its tag is missing, no choice of texts, or not its own.
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
                f"tag={tag!r}: each object of the union needs a required member {tag!r} with texts of its own, such "
                f"as {tag}: Literal['cat']; {arg.title or arg.kind!r} has none",
                constraint="tag",
            )
        texts |= set(values)
    return Type("union", type_.args, (("tag", tag),))


def tag_values(type_: Type, tag: str) -> tuple[str, ...]:
    """Return the texts that member `tag` of an object may have, none where it is no choice of texts."""
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
    python: Any = None,  # noqa: ANN401
) -> Type:
    """Return an object type with `members`, their names all different."""
    names: set[str] = set()
    for member in members:
        if member.name in names:
            raise SignatureError(f"object {title!r} has two members named {member.name!r}", member=member.name)
        names.add(member.name)
    rules = _check_constraints("object", constraints or {})
    return Type("object", (), tuple(sorted(rules.items())), title, members, python)


def standalone_members(type_: Type) -> list[Member]:
    """Return the members of an object that stand by themselves: where one names the object, it is put there whole."""
    return [replace(member, type=_fill_reference(member.type, type_)) for member in type_.members]


def _fill_reference(type_: Type, whole: Type) -> Type:
    if type_.kind == "ref" and type_.title == whole.title:
        return whole
    if type_.kind == "object" and type_.title == whole.title:  # inside it the name means this object
        return type_
    args = tuple(_fill_reference(arg, whole) for arg in type_.args)
    members = tuple(replace(member, type=_fill_reference(member.type, whole)) for member in type_.members)
    if args == type_.args and members == type_.members:
        return type_
    # a class whose annotations name the enclosing one resolves it by itself; a generic is made anew of its arguments
    return replace(type_, args=args, members=members, python=type_.python if type_.kind == "object" else None)
