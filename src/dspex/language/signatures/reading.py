"""From JSON Schema to types: whatever a contract can hold is read, the rest is refused with its reason."""

import math
from collections.abc import Mapping
from typing import Any

from dspex.errors import InvalidError, SignatureError, suggest
from dspex.language.signatures.checks import refers_outside
from dspex.language.signatures.field import Field
from dspex.language.signatures.kinds import FORMATS
from dspex.language.signatures.types import MISSING, Member, Type, make, object_type, tag_values, tagged, union
from dspex.language.signatures.validation import check_one, is_plainly

_TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
_REFUSED = (
    "not", "if", "then", "else", "contains", "patternProperties", "dependentSchemas", "dependentRequired",
    "unevaluatedProperties", "unevaluatedItems", "$dynamicRef",
)  # fmt: skip
_NODES = 20_000
# type words of other languages that function descriptions are written in, and what they mean in JSON
FOREIGN_TYPES: dict[str, str] = {
    "dict": "object", "HashMap": "object", "Map": "object", "Hashtable": "object", "Object": "object", "map": "object",
    "float": "number", "double": "number", "Double": "number", "Float": "number", "Number": "number",
    "tuple": "array", "Array": "array", "ArrayList": "array", "List": "array", "list": "array", "set": "array",
    "String": "string", "str": "string", "char": "string", "Character": "string", "text": "string",
    "Boolean": "boolean", "bool": "boolean",
    "int": "integer", "Integer": "integer", "long": "integer", "Long": "integer", "short": "integer",
    "byte": "integer", "bigint": "integer", "Bigint": "integer",
    "any": "any", "Any": "any", "": "any", "None": "null",
}  # fmt: skip
_NUMBERS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_BASE64_WORDS = {"base64", "base64url"}


class SchemaReader:
    """Reads the schemas of one document, references into it included."""

    def __init__(self, root: Mapping[str, Any], foreign: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.foreign = foreign or {}
        self._enclosing: list[tuple[str, str]] = []
        self._nodes = 0

    def root_object(self) -> Type:
        """Return the type of the whole document, which describes an object.

        Raises:
            SignatureError: it describes something else.
        """
        made = self.read(
            {**self.root, "type": self.root.get("type", "object")} if "$ref" not in self.root else self.root
        )
        if made.kind == "dict" and not made.args and not made.constraints:
            return Type("object")
        if made.kind != "object":
            raise SignatureError(f"a signature is made of an object's schema, not of one of type {made.kind!r}")
        return made

    def read(self, schema: Any, pointer: str = "#") -> Type:  # noqa: ANN401  # any JSON value
        """Return the type that `schema` describes.

        Raises:
            SignatureError: it is no schema, or says something that no type can hold; the message has the place.
        """
        self._nodes += 1
        if self._nodes > _NODES:
            raise SignatureError(f"a schema of more than {_NODES} parts, references written out")
        if len(self._enclosing) > 60 or pointer.count("/") > 400:
            raise SignatureError(f"{pointer}: nested too deeply")
        if schema is True:
            return make("any")
        if not isinstance(schema, Mapping):
            raise SignatureError(f"{pointer}: expected a schema, an object, not {schema!r}")
        for keyword in _REFUSED:
            if keyword in schema:
                raise SignatureError(f"{pointer}: the keyword {keyword!r} says what no type of a signature can hold")
        try:
            found = self._whole(schema, pointer)
        except SignatureError as error:
            if error.message.startswith("#"):
                raise
            raise SignatureError(f"{pointer}: {error.message}") from None
        except (TypeError, AttributeError, ValueError, KeyError) as error:  # a keyword with a value of the wrong kind
            raise SignatureError(f"{pointer}: this is no JSON Schema: {error}") from error
        return union(found, make("none")) if schema.get("nullable") is True else found

    def _whole(self, schema: Mapping[str, Any], pointer: str) -> Type:
        if "$ref" in schema:
            return self._reference(schema["$ref"], pointer)
        if "allOf" in schema:
            return self.read(self._merged(schema, pointer), pointer)
        if "enum" in schema or "const" in schema:
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return make("atom", constraints={"one_of": values})
        for keyword in ("oneOf", "anyOf"):
            if keyword in schema:
                return self._alternatives(schema, keyword, pointer=pointer)
        words = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else "any")
        if isinstance(words, list):
            return union(*(self._typed(word, schema, pointer=pointer) for word in words))
        return self._typed(words, schema, pointer=pointer)

    def _typed(self, word: Any, schema: Mapping[str, Any], *, pointer: str) -> Type:  # noqa: ANN401
        if not isinstance(word, str):
            raise SignatureError(f"{pointer}: a type is a text, not {word!r}")
        word = self.foreign.get(word, word)
        match word:
            case "any":
                return make("any")
            case "null":
                return make("none")
            case "boolean":
                return make("bool")
            case "string":
                return _string(schema)
            case "integer" | "number":
                return _number(word, schema)
            case "array":
                return self._array(schema, pointer)
            case "object":
                return self._object(schema, pointer)
        raise SignatureError(f"{pointer}: there is no type {word!r}.{suggest(word, list(_TYPES))}")

    def _reference(self, ref: Any, pointer: str) -> Type:  # noqa: ANN401
        for known, title in self._enclosing:
            if known == ref and title:
                return Type("ref", title=title)
        return self.read(self._resolved(ref, pointer), str(ref))

    def _resolved(self, ref: Any, pointer: str) -> Any:  # noqa: ANN401
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise SignatureError(f"{pointer}: only references into the schema itself are read, not {ref!r}")
        found: Any = self.root
        for part in ref.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise SignatureError(f"{pointer}: the reference {ref!r} leads nowhere") from None
        return found

    def _merged(self, schema: Mapping[str, Any], pointer: str) -> dict[str, Any]:
        made: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            resolved = self._resolved(part["$ref"], pointer) if "$ref" in part else part
            _add(made, resolved, pointer)
        return made

    def _alternatives(self, schema: Mapping[str, Any], keyword: str, *, pointer: str) -> Type:
        shared = {key: value for key, value in schema.items() if key in {"type", "properties", "required"}}
        parts = [
            self.read({**shared, **part} if isinstance(part, Mapping) and shared else part, f"{pointer}/{keyword}/{at}")
            for at, part in enumerate(schema[keyword])
        ]
        made = union(*parts)
        if keyword == "anyOf" and "discriminator" not in schema:
            return made
        tag = schema.get("discriminator", {}).get("propertyName") or _common_tag(made)
        return tagged(made, tag) if tag and made.kind == "union" else made

    def _array(self, schema: Mapping[str, Any], pointer: str) -> Type:
        items = schema.get("items")
        places = schema.get("prefixItems", items if isinstance(items, list) else None)
        if places is not None:
            is_closed = isinstance(items, list) or items is False or schema.get("maxItems") == len(places)
            if is_closed and schema.get("minItems", len(places)) == len(places):
                return make("tuple", *(self.read(part, f"{pointer}/items/{at}") for at, part in enumerate(places)))
            raise SignatureError(f"{pointer}: a list whose first items are fixed and whose length is not")
        rules = {"minItems": "min_items", "maxItems": "max_items", "uniqueItems": "unique"}
        constraints = {name: schema[key] for key, name in rules.items() if key in schema}
        args = [self.read(items, f"{pointer}/items")] if items not in (None, True, {}) else []
        return make("list", *args, constraints=constraints)

    def _object(self, schema: Mapping[str, Any], pointer: str) -> Type:
        extra = schema.get("additionalProperties")
        if "properties" not in schema or (not schema["properties"] and extra is not False):
            return self._mapping(schema, pointer)
        if not isinstance(schema["properties"], Mapping):
            raise SignatureError(f"{pointer}/properties: expected an object")
        title = self._title(schema, pointer)
        self._enclosing.append((pointer, title))
        members = tuple(self.members(schema, pointer))
        self._enclosing.pop()
        allow = extra is True or isinstance(extra, Mapping)
        return object_type(title, members, constraints={"extra": "allow"} if allow else {})

    def members(self, schema: Mapping[str, Any], pointer: str = "#") -> list[Member]:
        """Return the properties of an object schema."""
        required = schema.get("required", [])
        required = required if isinstance(required, list) else []
        made = []
        for name, part in schema.get("properties", {}).items():
            type_ = self.read(part, f"{pointer}/properties/{name}")
            desc = _said(part)
            default = part.get("default", MISSING) if isinstance(part, Mapping) and name not in required else MISSING
            if default is not MISSING and not _fits(type_, default):
                desc, default = f"{desc} (default: {default!r})".strip(), MISSING
            made.append(Member(name, type_, str(desc), is_required=name in required, default=default))
        return made

    def _title(self, schema: Mapping[str, Any], pointer: str) -> str:
        last = pointer.rsplit("/", 1)[-1]
        given = str(schema.get("title") or (last if "$defs" in pointer or "definitions" in pointer else ""))
        word = "".join(char if char.isascii() and (char.isalnum() or char == "_") else "_" for char in given)
        word = f"_{word}" if word[:1].isdigit() else word
        taken = {title for _, title in self._enclosing}
        number, title = 2, word
        while title and title in taken:
            title, number = f"{word}{number}", number + 1
        return title or ("Object" if pointer == "#" else "")

    def _mapping(self, schema: Mapping[str, Any], pointer: str) -> Type:
        constraints: dict[str, Any] = {
            name: schema[key]
            for key, name in {"minProperties": "min_size", "maxProperties": "max_size"}.items()
            if key in schema
        }
        if isinstance(schema.get("required"), list) and schema["required"]:
            constraints["required_keys"] = schema["required"]
        extra, names = schema.get("additionalProperties"), schema.get("propertyNames")
        if not isinstance(extra, Mapping) and names is None:
            return make("dict", constraints=constraints)
        value = self.read(extra, f"{pointer}/additionalProperties") if isinstance(extra, Mapping) else make("any")
        key = _key(names) if isinstance(names, Mapping) else make("str")
        return make("dict", key, value, constraints=constraints)


def _add(made: dict[str, Any], part: Mapping[str, Any], pointer: str) -> None:
    """Let one part of an allOf hold too."""
    for key, value in part.items():
        if key == "properties":
            made[key] = {**made.get(key, {}), **value}
        elif key == "required":
            made[key] = [*made.get(key, []), *value]
        elif made.get(key, value) == value or key in {"title", "description"}:
            made.setdefault(key, value)
        elif key != "pattern" or value not in FORMATS.values():  # that of a format stands beside it
            raise SignatureError(f"{pointer}: the parts of allOf disagree about {key!r}")


def _said(schema: Any) -> str:  # noqa: ANN401
    """Return the description of a property, what is said of the items of a list included: they have no other place."""
    if not isinstance(schema, Mapping):
        return ""
    own, items = str(schema.get("description", "")), _said(schema.get("items"))
    return f"{own} (each item: {items})".strip() if items else own


def _key(names: Mapping[str, Any]) -> Type:
    if names.get("pattern") == "^-?[0-9]+$":
        return make("int")
    return make("atom", constraints={"one_of": names["enum"]}) if "enum" in names else _string(names)


def _string(schema: Mapping[str, Any]) -> Type:
    if schema.get("contentEncoding") in _BASE64_WORDS or schema.get("format") in {"byte", "binary"}:
        return make("binary")
    rules = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
    constraints = {name: schema[key] for key, name in rules.items() if key in schema}
    format_ = schema.get("format")
    if format_ in FORMATS:
        constraints["format"] = format_
        if constraints.get("pattern") == FORMATS[format_]:
            del constraints["pattern"]
    return make("str", constraints=constraints)


def _number(word: str, schema: Mapping[str, Any]) -> Type:
    rules: dict[str, Any] = {}
    for key, name in _NUMBERS.items():
        value = schema.get(key)
        if value is None or value is False:
            continue
        if value is True:  # draft 4: a flag beside the bound
            rules[name] = rules.pop("ge" if name == "gt" else "le")
        else:
            rules[name] = _whole(name, value) if word == "integer" else value
    return make("int" if word == "integer" else "float", constraints=rules)


def _whole(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return the bound of a whole number as a whole number."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    if name == "multiple_of" and not value.is_integer():
        raise SignatureError(f"a whole number that is a multiple of {value!r}")
    return math.ceil(value) if name in {"ge", "lt"} else math.floor(value)


def _common_tag(type_: Type) -> str | None:
    if type_.kind != "union" or any(arg.kind != "object" for arg in type_.args):
        return None
    for member in type_.args[0].members:
        values = [tag_values(arg, member.name) for arg in type_.args]
        flat = [value for part in values for value in part]
        if all(values) and len(set(flat)) == len(flat):
            return member.name
    return None


def _fits(type_: Type, default: Any) -> bool:  # noqa: ANN401
    field = Field(name="default", type=type_, role="input", default=default)
    if refers_outside(type_):
        return False
    if is_plainly(field):
        return True
    try:
        return bool(check_one(field)[1] == default)
    except (InvalidError, SignatureError):
        return False
