"""Writes types, fields and signatures in the string form, which the grammar parses."""

import json
from collections.abc import Iterable

from dspex.language.signatures.field import Field
from dspex.language.signatures.types import MISSING, Member, Type


def type_text(type_: Type, *, full: bool = False) -> str:
    """Return `type_` in the string form: `list[str][min_items=1]`, `Literal['a', 'b']`, `int?`.

    An object is written as its title; with `full`, with all its members, so that the text parses to
    an equal type.
    """
    match type_.kind:
        case "union":
            return _union_text(type_, full=full)
        case "atom":
            return (
                f"Literal[{', '.join(value_text(choice) for choice in type_.constraint('one_of'))}]"
            )
        case "object":
            return _object_text(type_) if full else (type_.title or "object")
        case "ref":
            return type_.title
        case "any" if not full:  # prompts show its schema separately
            return "any"
    args = f"[{', '.join(type_text(arg, full=full) for arg in type_.args)}]" if type_.args else ""
    return f"{type_.kind}{args}{_rules_text(type_)}"


def _rules_text(type_: Type) -> str:
    rules = ", ".join(f"{name}={value_text(value)}" for name, value in type_.constraints)
    return f"[{rules}]" if rules else ""


def _union_text(type_: Type, *, full: bool) -> str:
    parts = [arg for arg in type_.args if arg.kind != "none"]
    is_last_none = len(parts) < len(type_.args) and type_.args[-1].kind == "none"
    if len(parts) == 1 and is_last_none and not (full and type_.constraints):
        inner = type_text(parts[0], full=full)
        return f"({inner})?" if parts[0].kind == "union" else f"{inner}?"
    texts = [
        f"({type_text(arg, full=full)})" if arg.kind == "union" else type_text(arg, full=full)
        for arg in type_.args
    ]
    joined = " | ".join(texts)
    return f"({joined}){_rules_text(type_)}" if type_.constraints else joined


def _object_text(type_: Type) -> str:
    members = ", ".join(_member_text(member) for member in type_.members)
    return f"{type_.title}{{{members}}}{_rules_text(type_)}"


def _member_text(member: Member) -> str:
    name = member.name if _is_word(member.name) else _quoted(member.name)
    absent = "?" if not member.is_required and member.default is MISSING else ""
    rest = _description_and_default(member.desc, member.default)
    return f"{name}{absent}: {type_text(member.type, full=True)}{rest}"


def _is_word(name: str) -> bool:
    return name.isidentifier() and name.isascii()


def _description_and_default(desc: str, default: object) -> str:
    text = f" {_quoted(desc)}" if desc else ""
    return text if default is MISSING else f"{text} = {value_text(default)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def value_text(value: object) -> str:
    """Return a JSON value in the string form: plain texts in single quotes."""
    if isinstance(value, str):
        plain = value.isascii() and value.isprintable() and "'" not in value and "\\" not in value
        return f"'{value}'" if plain else _quoted(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, dict):
        return (
            f"{{{', '.join(f'{_quoted(key)}: {value_text(item)}' for key, item in value.items())}}}"
        )
    return json.dumps(value)


def fields_text(fields: Iterable[Field], *, full: bool = True) -> str:
    """Return `fields` in the string form, with descriptions and defaults."""
    return ", ".join(field_text(field, full=full) for field in fields)


def field_text(field: Field, *, full: bool = True) -> str:
    """Return a field in the string form, with its description and default."""
    alias = f" as {_quoted(field.alias)}" if field.alias else ""
    return (
        f"{field.name}{alias}: "
        f"{type_text(field.type, full=full)}{_description_and_default(field.desc, field.default)}"
    )


def signature_text(name: str, fields: Iterable[Field], *, instructions: str) -> str:
    """Return the whole string form, without `name` and `instructions` if they are empty."""
    listed = list(fields)
    sides = [
        fields_text(field for field in listed if field.role == role) for role in ("input", "output")
    ]
    body = f"{sides[0]} -> {sides[1]}".strip()
    if not name and not instructions:
        return body
    title = name if not name or _is_word(name) else _quoted(name)
    ending = f" {_quoted(instructions)}" if instructions else ""
    return f"{title}({body}){ending}"
