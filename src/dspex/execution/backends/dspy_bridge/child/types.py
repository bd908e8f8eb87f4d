"""JSON Schema to annotations and back: how field types cross the wire."""

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema

from .compat import OWN_TYPES

MARK = "x-dspex"  # a schema that carries it is one of dspy's own types

_BASIC: "dict[str, Any]" = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": type(None),
    "object": dict[str, Any],
    "array": list,
}
CONSTRAINTS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minItems": "min_length",
    "maxItems": "max_length",
}


class Annotations:
    """Builds annotations from the schemas of one signature; a named definition becomes one model."""

    def __init__(self, definitions: "dict[str, Any]") -> None:
        self._definitions = definitions
        self._made: dict[str, Any] = {}

    def of(self, schema: "dict[str, Any]") -> Any:  # noqa: ANN401
        """Return the annotation that `schema` describes, its constraints included."""
        made = self.bare(schema)
        rules = rules_of(schema)
        return Annotated[made, Field(**rules)] if rules else made

    def bare(self, schema: "dict[str, Any]") -> Any:  # noqa: ANN401
        """Return the annotation without the constraints of its outermost level."""
        if "$ref" in schema:
            return self._named(schema["$ref"].rpartition("/")[2])
        if schema.get(MARK) in OWN_TYPES:
            return OWN_TYPES[schema[MARK]]
        if "const" in schema or "enum" in schema:
            return Literal[tuple(schema.get("enum", [schema.get("const")]))]
        if members := schema.get("anyOf") or schema.get("oneOf"):
            return self._one_of(members)
        kind = schema.get("type")
        if isinstance(kind, list):
            return reduce(or_, (self.of({**schema, "type": one}) for one in kind))
        if kind == "array" and schema.get("items"):
            return list[self.of(schema["items"])]  # type: ignore[misc]
        if kind == "object" and "properties" in schema:
            return self._model(schema)
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            return dict[str, self.of(schema["additionalProperties"])]  # type: ignore[misc]
        return _BASIC.get(kind, Any) if kind else Any

    def _one_of(self, members: "list[dict[str, Any]]") -> Any:  # noqa: ANN401
        if any(member.get(MARK) == "History" for member in members):
            return OWN_TYPES["History"]  # dspy knows a history by this very annotation
        return reduce(or_, (self.of(member) for member in members))

    def _named(self, name: str) -> Any:  # noqa: ANN401
        if name not in self._made:
            self._made[name] = self.bare(self._definitions[name])
        return self._made[name]

    def _model(self, schema: "dict[str, Any]") -> Any:  # noqa: ANN401
        required = set(schema.get("required", ()))
        fields: dict[str, Any] = {
            name: (
                self.of(part),
                Field(... if name in required else part.get("default"), description=part.get("description")),
            )
            for name, part in schema["properties"].items()
        }
        return create_model(schema.get("title") or "Object", **fields)


def rules_of(schema: "dict[str, Any]") -> "dict[str, Any]":
    """Return the constraints of a schema's outermost level under pydantic's names."""
    return {ours: schema[theirs] for theirs, ours in CONSTRAINTS.items() if theirs in schema}


class _Marking(GenerateJsonSchema):
    """Says which models are dspy's own types: the parent has types of its own for them."""

    def model_schema(self, schema: Any) -> Any:  # noqa: ANN401
        made = super().model_schema(schema)
        marks = [name for name, own in OWN_TYPES.items() if issubclass(schema["cls"], own)]
        return {**made, MARK: marks[0]} if marks else made


def schema_of(field: Any) -> "dict[str, Any]":  # noqa: ANN401  # a pydantic FieldInfo
    """Return the JSON Schema of a dspy field, constraints included."""
    hint = field.annotation
    for mark in field.metadata:
        hint = Annotated[hint, mark]
    return hint_schema(hint)


def hint_schema(hint: Any) -> "dict[str, Any]":  # noqa: ANN401
    """Return the JSON Schema of an annotation; empty for a type of the user's own without a schema: any value."""
    try:
        return TypeAdapter(hint).json_schema(schema_generator=_Marking)
    except Exception:  # noqa: BLE001  # pydantic tells by many kinds of error that it has no schema
        return {}
