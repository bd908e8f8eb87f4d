"""Converts field types between JSON Schema, which crosses the wire, and annotations."""

from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, ForwardRef, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model, model_serializer
from pydantic.json_schema import GenerateJsonSchema

from .compat import OWN_TYPES

MARK = "x-dspex"  # marks the schema of one of dspy's own types

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
    """Builds annotations from the schemas of one signature; each definition becomes one model."""

    def __init__(self, definitions: "dict[str, Any]") -> None:
        self._definitions = definitions
        self._annotations: dict[str, Any] = {}
        self._pending: dict[str, str] = {}
        self._names: dict[str, Any] = {}
        self._models: list[Any] = []

    def of(self, schema: "dict[str, Any]") -> Any:
        """Return the annotation that `schema` describes, including its constraints."""
        annotation = self.bare(schema)
        rules = rules_of(schema)
        return Annotated[annotation, Field(**rules)] if rules else annotation

    def bare(self, schema: "dict[str, Any]") -> Any:
        """Return the annotation without the constraints of its outermost level."""
        if "$ref" in schema:
            return self._definition(schema["$ref"].rpartition("/")[2])
        if schema.get(MARK) in OWN_TYPES:
            return OWN_TYPES[schema[MARK]]
        if "const" in schema or "enum" in schema:
            return Literal[tuple(schema.get("enum", [schema.get("const")]))]
        if members := schema.get("anyOf") or schema.get("oneOf"):
            return self._one_of(members)
        kind = schema.get("type")
        if isinstance(kind, list):
            return reduce(or_, (self.of({**schema, "type": item}) for item in kind))
        if kind == "array" and schema.get("items"):
            return list[self.of(schema["items"])]  # type: ignore[misc]
        if kind == "object" and "properties" in schema:
            return self._model(schema)
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            return dict[str, self.of(schema["additionalProperties"])]  # type: ignore[misc]
        return _BASIC.get(kind, Any) if kind else Any

    def _one_of(self, members: "list[dict[str, Any]]") -> Any:
        if any(member.get(MARK) == "History" for member in members):
            return OWN_TYPES["History"]  # dspy recognizes a history by exactly this annotation
        return reduce(or_, (self.of(member) for member in members))

    def _definition(self, name: str) -> Any:
        if name in self._pending:
            return ForwardRef(self._pending[name])  # the definition contains itself
        if name not in self._annotations:
            definition = self._definitions[name]
            self._pending[name] = (
                f"{definition.get('title') or 'Object'}_"
                f"{len(self._annotations) + len(self._pending)}"
            )
            self._annotations[name] = self.bare(definition)
            self._rebuild(self._pending.pop(name), self._annotations[name])
        return self._annotations[name]

    def _rebuild(self, reference: str, annotation: Any) -> None:
        """Complete the models that refer to this annotation."""
        self._names[reference] = annotation
        for model in self._models:
            if not model.__pydantic_complete__:
                model.model_rebuild(raise_errors=False, _types_namespace=self._names)

    def _model(self, schema: "dict[str, Any]") -> Any:
        required = set(schema.get("required", ()))
        fields: dict[str, Any] = {}
        for at, (name, part) in enumerate(schema["properties"].items()):
            default = ... if name in required else part.get("default")
            is_legal = name.isidentifier() and name[0] != "_" and not hasattr(_Object, name)
            options = {} if is_legal else {"alias": name}  # pydantic has other uses for some names
            hint = self.of(part)
            fields[name if is_legal else f"member_{at}"] = (
                hint,
                Field(default, description=part.get("description"), **options),
            )
        model = create_model(schema.get("title") or "Object", __base__=_Object, **fields)
        model.absent_members = frozenset(
            name
            for name, part in schema["properties"].items()
            if name not in required and "default" not in part
        )
        self._models.append(model)
        return model


class _Object(BaseModel):
    """An object type of dspex; omits optional members that have no value."""

    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())
    absent_members: "ClassVar[frozenset[str]]" = frozenset()

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: Any) -> Any:
        data: dict[str, Any] = handler(self)
        return {
            key: part
            for key, part in data.items()
            if part is not None or key not in self.absent_members
        }


def rules_of(schema: "dict[str, Any]") -> "dict[str, Any]":
    """Return the constraints of a schema's outermost level under pydantic's names."""
    return {ours: schema[theirs] for theirs, ours in CONSTRAINTS.items() if theirs in schema}


class _MarkingSchema(GenerateJsonSchema):
    """Marks models that are dspy's own types, for which the parent has types too."""

    def model_schema(self, schema: Any) -> Any:
        json_schema = super().model_schema(schema)
        marks = [name for name, cls in OWN_TYPES.items() if issubclass(schema["cls"], cls)]
        return {**json_schema, MARK: marks[0]} if marks else json_schema


def schema_of(field: Any) -> "dict[str, Any]":
    """Return the JSON Schema of a dspy field, including its constraints."""
    hint = field.annotation
    for mark in field.metadata:
        hint = Annotated[hint, mark]
    return hint_schema(hint)


def hint_schema(hint: Any) -> "dict[str, Any]":
    """Return the JSON Schema of an annotation; empty (any value) for a type without a schema."""
    try:
        return TypeAdapter(hint).json_schema(schema_generator=_MarkingSchema)
    except Exception:  # noqa: BLE001  # pydantic raises many kinds for a type without schema
        return {}
