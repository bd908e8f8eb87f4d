"""JSON Schema 2020-12 of types and fields: the general form behind each provider's dialect."""

from collections.abc import Callable, Iterable
from typing import Any

from dspex.language.signatures.builtin import expand
from dspex.language.signatures.field import Field
from dspex.language.signatures.kinds import FORMATS
from dspex.language.signatures.schema_check import with_format_patterns
from dspex.language.signatures.schema_keywords import with_subschemas
from dspex.language.signatures.schema_patterns import to_schema_pattern
from dspex.language.signatures.types import MISSING, Type

BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_KEYWORDS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "min_length": "minLength", "max_length": "maxLength", "pattern": "pattern", "format": "format",
    "min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems",
    "min_size": "minProperties",
    "max_size": "maxProperties",
}  # fmt: skip
Schema = dict[str, Any]


def _rename_references(schema: Any, names: dict[str, str]) -> Any:
    """Return `schema` with its references changed to the new names of definitions."""
    if not isinstance(schema, dict):
        return schema
    result = with_subschemas(schema, lambda part: _rename_references(part, names))
    if "$ref" in result:
        name = result["$ref"].rpartition("/")[2]
        result["$ref"] = f"#/$defs/{names.get(name, name)}"
    return result


def fields_schema(
    fields: Iterable[Field],
    *,
    key: Callable[[Field], str],
    title: str = "",
    member_key: Callable[[str], str] = str,
) -> Schema:
    """Return the schema of an object with `fields`, each under the name that `key` returns.

    `member_key` does the same for the members of nested objects.
    """
    writer = SchemaWriter(member_key)
    listed = list(fields)
    schema: Schema = {"type": "object"}
    if title:
        schema["title"] = title
    schema["properties"] = {
        key(field): writer.property_schema(field.type, field.desc, field.default)
        for field in listed
    }
    schema["required"] = [key(field) for field in listed if field.is_required]
    schema["additionalProperties"] = False
    return writer.finish(schema)


def type_schema(type_: Type) -> Schema:
    """Return the schema of one type, with recursive objects under `$defs`."""
    writer = SchemaWriter()
    return writer.finish(writer.write(type_))


class SchemaWriter:
    """Writes types as schemas. Objects are written inline; only recursive ones go to `$defs`."""

    def __init__(self, member_key: Callable[[str], str] = str) -> None:
        self._key = member_key
        self._definitions: dict[str, Schema] = {}
        self._enclosing: list[tuple[str, str]] = []
        self._referred: set[str] = set()
        self._names: set[str] = set()
        self._adopted_definitions: Schema = {}

    def finish(self, schema: Schema) -> Schema:
        """Return `schema` with the definitions that it refers to."""
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def property_schema(self, type_: Type, desc: str, default: Any) -> Schema:
        """Return the schema of one property."""
        schema = self.write(type_)
        if desc:
            type_desc = schema.get("description", "")
            schema["description"] = desc if type_desc in desc else f"{desc} ({type_desc})"
        if default is not MISSING:
            schema["default"] = default
        return schema

    def write(self, type_: Type) -> Schema:
        """Return the schema of one type."""
        expansion = expand(type_)
        if expansion is not type_:
            return self.write(expansion)
        method: Callable[[Type], Schema] = getattr(self, f"_{type_.kind}")
        return method(type_)

    def _rules(self, base: str, type_: Type) -> Schema:
        return {
            "type": base,
            **{_KEYWORDS[name]: value for name, value in type_.constraints if name in _KEYWORDS},
        }

    def _str(self, type_: Type) -> Schema:
        schema = self._rules("string", type_)
        if "pattern" in schema:
            schema["pattern"] = to_schema_pattern(schema["pattern"])
        if "format" in schema:
            shape = FORMATS[schema["format"]]
            if "pattern" in schema:
                schema["allOf"] = [{"pattern": shape}]
            else:
                schema["pattern"] = shape
        return schema

    def _int(self, type_: Type) -> Schema:
        return self._rules("integer", type_)

    def _float(self, type_: Type) -> Schema:
        schema = self._rules("number", type_)
        precision = type_.constraint("precision")
        return (
            schema
            if precision is None
            else {**schema, "description": f"at most {precision} decimals"}
        )

    def _bool(self, _: Type) -> Schema:
        return {"type": "boolean"}

    def _any(self, type_: Type) -> Schema:
        schema = type_.constraint("schema")
        return {} if schema is None else self._adopt(schema)

    def _adopt(self, schema: Schema) -> Schema:
        """Return a standalone schema as a part of this one, with its definitions moved to ours."""
        definitions: Schema = with_format_patterns(
            schema.get("$defs", {}) and {"$defs": schema["$defs"]}
        ).get("$defs", {})
        names = {name: self._definition_name(name, part) for name, part in definitions.items()}
        for name, part in definitions.items():
            self._definitions[names[name]] = _rename_references(part, names)
        bare = {key: value for key, value in schema.items() if key != "$defs"}
        result: Schema = _rename_references(with_format_patterns(bare), names)
        return result

    def _definition_name(self, name: str, part: Any) -> str:
        """Return `name` if it is free or already has this definition, otherwise a new name."""
        wish, number = name, 2
        while name in self._names and self._adopted_definitions.get(name) != part:
            name, number = f"{wish}_{number}", number + 1
        self._names.add(name)
        self._adopted_definitions[name] = part
        return name

    def _none(self, _: Type) -> Schema:
        return {"type": "null"}

    def _binary(self, _: Type) -> Schema:
        return {"type": "string", "contentEncoding": "base64", "pattern": BASE64}

    def _atom(self, type_: Type) -> Schema:
        values = list(type_.constraint("one_of"))
        names = {
            str: "string",
            bool: "boolean",
            int: "integer",
            float: "number",
            type(None): "null",
        }
        kinds = list(dict.fromkeys(names[type(value)] for value in values))
        if "number" in kinds and "integer" in kinds:
            kinds.remove("integer")
        return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}

    def _list(self, type_: Type) -> Schema:
        schema = self._rules("array", type_)
        return {**schema, "items": self.write(type_.args[0])} if type_.args else schema

    def _tuple(self, type_: Type) -> Schema:
        size = len(type_.args)
        items = {"prefixItems": [self.write(arg) for arg in type_.args]} if size else {}
        return {"type": "array", **items, "items": False, "minItems": size, "maxItems": size}

    def _dict(self, type_: Type) -> Schema:
        schema = self._rules("object", type_)
        if type_.args:
            key, value = type_.args
            names = {"pattern": "^-?[0-9]+$"} if key.kind == "int" else self.write(key)
            names.pop("type", None)
            if names:
                schema["propertyNames"] = names
            schema["additionalProperties"] = self.write(value)
        if required := type_.constraint("required_keys"):
            schema["required"] = list(required)
        return schema

    def _union(self, type_: Type) -> Schema:
        parts = [self.write(arg) for arg in type_.args]
        if type_.constraint("tag") is not None:
            # the tags are disjoint, so at most one part matches
            return {"oneOf": parts}
        kinds = [part.get("type") for part in parts if set(part) == {"type"}]
        if len(kinds) == len(parts) and all(isinstance(kind, str) for kind in kinds):
            return {"type": list(dict.fromkeys(kinds))}
        return {"anyOf": parts}

    def _object(self, type_: Type) -> Schema:
        name = self._free_name(type_.title or "Object")
        self._enclosing.append((type_.title, name))
        schema: Schema = {"type": "object"}
        if type_.title:
            schema["title"] = type_.title
        schema["properties"] = {
            self._key(member.name): self.property_schema(member.type, member.desc, member.default)
            for member in type_.members
        }
        schema["required"] = [
            self._key(member.name) for member in type_.members if member.is_required
        ]
        schema["additionalProperties"] = type_.constraint("extra") == "allow"
        self._enclosing.pop()
        if name not in self._referred:
            self._names.discard(name)
            return schema
        self._definitions[name] = schema
        return {"$ref": f"#/$defs/{name}"}

    def _free_name(self, title: str) -> str:
        name, number = title, 2
        while name in self._names:
            name, number = f"{title}{number}", number + 1
        self._names.add(name)
        return name

    def _ref(self, type_: Type) -> Schema:
        name = next(name for title, name in reversed(self._enclosing) if title == type_.title)
        self._referred.add(name)
        return {"$ref": f"#/$defs/{name}"}
