"""Merges the parts of `allOf` to one equivalent schema."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from dspex.errors import SignatureError
from dspex.language.signatures.schema_document import Schema
from dspex.language.signatures.schema_keywords import ANNOTATIONS, TYPES, assertions

_LOWER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_HIGHER = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
# the meaning of these depends on the keywords beside them
_DEPENDENT = {
    "additionalProperties": {"properties", "patternProperties"},
    "patternProperties": {"additionalProperties"},
    "items": {"prefixItems"},
    "prefixItems": {"items"},
}
_PARTS = 200


def merge_all_of(schema: Schema, definitions: Mapping[str, Any]) -> Schema:
    """Return `schema` with the parts of `allOf` and the target of `$ref` merged into it.

    Raises:
        SignatureError: the result would not be equivalent, or there are too many parts.
    """
    return _merge_parts(schema, definitions, itertools.count())


def _merge_parts(
    schema: Schema, definitions: Mapping[str, Any], counter: "itertools.count[int]"
) -> Schema:
    if next(counter) > _PARTS:  # parts that refer to each other multiply
        raise SignatureError(f"allOf of more than {_PARTS} parts")
    parts: list[Any] = [
        {name: value for name, value in schema.items() if name not in {"allOf", "$ref"}}
    ]
    if "$ref" in schema:
        parts.append(definitions[schema["$ref"].rpartition("/")[2]])
    parts.extend(schema.get("allOf", ()))
    whole: Schema = {}
    for part in parts:
        if part is True:
            continue
        if not isinstance(part, Mapping):
            raise SignatureError("no value matches")
        flat = (
            _merge_parts(dict(part), definitions, counter)
            if {"allOf", "$ref"} & part.keys()
            else part
        )
        _check_independent(whole, flat)
        for name, value in flat.items():
            _add(whole, name, value)
    return whole


def _check_independent(whole: Schema, part: Mapping[str, Any]) -> None:
    """Raise if merging would change the meaning of keywords that depend on their neighbours."""
    for schema, neighbour in ((whole, part), (part, whole)):
        for name in assertions(schema):
            if name.startswith("unevaluated") and neighbour:
                raise SignatureError(f"{name!r} depends on the keywords beside it")
            if _DEPENDENT.get(name, set()) & neighbour.keys():
                raise SignatureError(f"{name!r} depends on the keywords beside it")


def _add(whole: Schema, name: str, value: Any) -> None:
    if name not in whole:
        whole[name] = value
    elif name in ANNOTATIONS or (whole[name] == value and type(whole[name]) is type(value)):
        return
    elif name in _ADDERS:
        whole[name] = _ADDERS[name](whole[name], value)
    elif name in _LOWER | _HIGHER:
        whole[name] = (min if name in _LOWER else max)(whole[name], value)
    else:
        raise SignatureError(f"the parts of allOf have different {name!r}")


def _types(left_types: Any, right_types: Any) -> Any:
    """Return the types that both allow."""
    first, second = (
        set(kinds if isinstance(kinds, list) else [kinds]) for kinds in (left_types, right_types)
    )
    for kinds, others in ((first, second), (second, first)):
        if "number" in kinds:
            kinds |= others & {"integer"}
    both = [kind for kind in TYPES if kind in first & second]
    both = [kind for kind in both if kind != "integer" or "number" not in both]
    if not both:
        raise SignatureError("the parts of allOf have no type in common")
    return both[0] if len(both) == 1 else both


def _properties(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of both; a shared property must satisfy both schemas."""
    result = dict(base)
    for name, part in extra.items():
        if name not in result or result[name] is True:
            result[name] = part
        elif result[name] != part and part is not True:
            result[name] = {"allOf": [result[name], part]}
    return result


_ADDERS: dict[str, Callable[[Any, Any], Any]] = {
    "type": _types,
    "properties": _properties,
    "required": lambda first, second: list(dict.fromkeys([*first, *second])),
    "uniqueItems": lambda first, second: first or second,
}
