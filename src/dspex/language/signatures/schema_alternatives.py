"""Checks whether alternatives exclude each other, so that at most one matches."""

from collections.abc import Iterable, Mapping
from typing import Any

from dspex.language.signatures.schema_document import Schema
from dspex.language.signatures.schema_keywords import TYPES, assertions, kinds_of
from dspex.language.signatures.types import Type, tag_values


def common_tag(type_: Type) -> str | None:
    """Return the member whose texts distinguish the objects of a union, or None."""
    if type_.kind != "union" or any(arg.kind != "object" for arg in type_.args):
        return None
    for member in type_.args[0].members:
        values = [tag_values(arg, member.name) for arg in type_.args]
        flat = [value for part in values for value in part]
        if (
            all(values)
            and len(set(flat)) == len(flat)
            and all(_has_required(arg, member.name) for arg in type_.args)
        ):
            return member.name
    return None


def _has_required(type_: Type, name: str) -> bool:
    return any(member.name == name and member.is_required for member in type_.members)


def are_disjoint(parts: Iterable[Schema | bool], definitions: Mapping[str, Any]) -> bool:
    """Whether their types and listed values show that no value matches two alternatives."""
    kinds: set[str] = set()
    values: set[tuple[str, Any]] = set()
    value_kinds: set[str] = set()
    for part in parts:
        schema = _target(part, definitions)
        listed = _listed_values(schema)
        if listed is None:
            here = _possible_kinds(schema)
            if here & (kinds | value_kinds):
                return False
            kinds |= here
            continue
        keys = {
            (type(value).__name__ if isinstance(value, bool) else "", value) for value in listed
        }
        here = set().union(*(kinds_of(value) - {"integer"} for value in listed))
        if keys & values or here & kinds:
            return False
        values |= keys
        value_kinds |= here
    return True


def _target(schema: Schema | bool, definitions: Mapping[str, Any]) -> Schema | bool:  # noqa: FBT001
    """Follow plain references."""
    for _ in range(20):
        if not isinstance(schema, Mapping) or assertions(schema) != {"$ref"}:
            break
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _listed_values(schema: Schema | bool) -> list[Any] | None:  # noqa: FBT001
    """Return the listed values, or None if they are not listed or not scalars."""
    if isinstance(schema, bool) or not {"enum", "const"} & schema.keys():
        return None
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    return None if any(isinstance(value, list | dict) for value in values) else values


def _possible_kinds(schema: Schema | bool) -> set[str]:  # noqa: FBT001
    """Return the JSON types of values of `schema`; integers count as numbers."""
    if isinstance(schema, bool):
        return set(TYPES) if schema else set()
    kinds = schema.get("type", list(TYPES))
    kinds = set(kinds) if isinstance(kinds, list) else {kinds}
    return {"number" if kind == "integer" else kind for kind in kinds}
