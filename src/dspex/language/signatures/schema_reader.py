"""Converts JSON Schema to types: a rule becomes part of a type, stays a schema, or is refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex.errors import InputError, SignatureError
from dspex.language.signatures.checks import check_size, refers_outside
from dspex.language.signatures.field import Field
from dspex.language.signatures.limits import check_limit
from dspex.language.signatures.schema_alternatives import are_disjoint, common_tag
from dspex.language.signatures.schema_document import Schema, SchemaDocument
from dspex.language.signatures.schema_keywords import assertions
from dspex.language.signatures.schema_merge import merge_all_of
from dspex.language.signatures.schema_scalars import (
    BeyondTypes,
    choice,
    key,
    no_rules,
    number,
    string,
)
from dspex.language.signatures.types import (
    MISSING,
    Member,
    Type,
    make,
    object_type,
    standalone_members,
    tagged,
    union,
)
from dspex.language.signatures.validation import check_default, is_plain_default

# type names of other languages in function descriptions, and their JSON types
FOREIGN_TYPES: dict[str, str] = {
    "dict": "object", "HashMap": "object", "Map": "object", "Hashtable": "object",
    "Object": "object", "map": "object",
    "float": "number", "double": "number", "Double": "number", "Float": "number",
    "Number": "number",
    "tuple": "array", "Array": "array", "ArrayList": "array", "List": "array", "list": "array",
    "set": "array",
    "String": "string", "str": "string", "char": "string", "Character": "string", "text": "string",
    "Boolean": "boolean", "bool": "boolean",
    "int": "integer", "Integer": "integer", "long": "integer", "Long": "integer",
    "short": "integer",
    "byte": "integer", "bigint": "integer", "Bigint": "integer",
    "any": "any", "Any": "any", "": "any", "None": "null",
}  # fmt: skip
_SPARE_PARTS = 2000


class SchemaTooLarge(Exception):  # noqa: N818  # internal to this module, like the next one
    """The types of a schema would be much larger than the schema."""


class SchemaRefused(Exception):  # noqa: N818
    """A rule can be neither expressed nor checked; the text says why."""


class SchemaReader:
    """Reads the schemas of one document.

    A schema that a type expresses exactly becomes that type. Any other part, as small as possible,
    becomes `any[schema=...]` with the definitions that it refers to, and is checked as a schema.
    """

    def __init__(
        self,
        root: Mapping[str, Any] | bool,  # noqa: FBT001
        foreign: Mapping[str, str] | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        """Read the schema `root`; `foreign` and `resources` are as for `SchemaDocument`.

        Raises:
            SignatureError: `root` is not a schema, or is too large.
        """
        self.document = SchemaDocument(root, foreign, resources)
        self._limit = _SPARE_PARTS + 4 * self.document.parts
        self._open_names: list[tuple[str, str]] = []
        self._parts = 0

    def root_type(self) -> Type:
        """Return the type of the whole document.

        Raises:
            SignatureError: a rule can be neither expressed nor checked; the message names it.
        """
        self._parts, self._open_names = 0, []
        try:
            return self._limit_type(
                self._read(self.document.root, self.document.root_name), self.document.root
            )
        except SchemaTooLarge:
            self._parts = 0
            return self._any_by_schema()
        except SchemaRefused as error:
            raise SignatureError(str(error)) from None

    def _any_by_schema(self) -> Type:
        try:
            return self.any_by_schema(self.document.root)
        except SchemaRefused as error:
            raise SignatureError(str(error)) from None

    def fields(self) -> tuple[Member, ...]:
        """Return the members of an object schema, one per property.

        Raises:
            BeyondTypes: it is not an object schema, or has rules for several properties together.
        """
        root, name = self._resolve_root()
        self._parts, self._open_names = 0, []
        try:
            type_ = self._read_exactly(root, name)
        except SchemaTooLarge:
            type_ = self._object_by_schemas(root)
        except SignatureError as error:
            raise BeyondTypes(error.message) from None
        except SchemaRefused as error:
            raise SignatureError(str(error)) from None
        if type_.kind == "dict" and not type_.args and not type_.constraints:
            return ()
        if type_.kind != "object":
            raise BeyondTypes(
                f"it describes a value of type {type_.kind!r}, not an object with properties"
            )
        whole = (
            merge_all_of(root, self.document.definitions)
            if {"$ref", "allOf"} & root.keys()
            else root
        )
        properties = whole.get("properties", {})
        try:
            members = tuple(
                self._limit_member(member, properties.get(member.name))
                for member in standalone_members(type_)
            )
            return members if _is_within_limits(members) else self._object_by_schemas(root).members
        except SchemaTooLarge:
            raise BeyondTypes("its properties are too large for types") from None

    def _resolve_root(self) -> tuple[Schema, str]:
        """Follow references to the object that the document describes; return it and its name."""
        root, name = self.document.root, self.document.root_name
        visited: set[str] = set()
        while (
            isinstance(root, Mapping)
            and assertions(root) == {"$ref"}
            and root["$ref"] not in visited
        ):
            visited.add(root["$ref"])
            name = root["$ref"].rpartition("/")[2]
            root = self.document.definitions[name]
        if not isinstance(root, Mapping):
            raise BeyondTypes("it does not describe an object")
        if "type" not in root and "properties" in root:
            return {**root, "type": "object"}, ""  # references to it may still mean any value
        return root, name

    def _limit_member(self, member: Member, schema: Schema | bool | None) -> Member:  # noqa: FBT001
        if schema is None:
            return member
        return replace(member, type=self._limit_type(member.type, schema))

    def _limit_type(self, type_: Type, schema: Schema | bool) -> Type:  # noqa: FBT001
        """Return `type_`, or `any` checked by `schema` if `type_` exceeds the limits."""
        return type_ if _is_within_limits([Member("x", type_)]) else self.any_by_schema(schema)

    def _object_by_schemas(self, root: Schema) -> Type:
        """Return the object `root` with each property checked by schema; raise if too large."""
        self._parts, self._open_names = 0, []
        try:
            root = merge_all_of(root, self.document.definitions)
            members = tuple(self._members(root, self.any_by_schema))
            check_limit("fields", len(members), "a schema")
        except (SchemaTooLarge, SignatureError):
            raise BeyondTypes("its properties share too many definitions") from None
        except SchemaRefused as error:
            raise SignatureError(str(error)) from None
        return object_type("Object", members)

    def any_by_schema(self, schema: Schema | bool) -> Type:  # noqa: FBT001
        """Return `any`, checked by `schema`."""
        alone = self.document.standalone(schema)
        self._count(_size(alone))
        try:
            return make("any", constraints={"schema": alone})
        except SignatureError as error:
            raise SchemaRefused(error.message) from None

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > self._limit:
            raise SchemaTooLarge

    def _read(self, schema: Schema | bool, name: str = "") -> Type:  # noqa: FBT001
        """Return the type of `schema`; `name` is its name in references."""
        before = list(self._open_names)
        try:
            return self._read_exactly(schema, name)
        except (BeyondTypes, SignatureError):
            self._open_names = before
            return self.any_by_schema(schema)

    def _read_exactly(self, schema: Schema | bool, name: str) -> Type:  # noqa: FBT001
        self._count(1)
        if schema is True:
            return make("any")
        if schema is False:
            raise BeyondTypes("no value matches it")
        if name:
            self._open_names.append((name, ""))
        type_ = self._by_keywords(schema, assertions(schema), name)
        if name:
            self._open_names.pop()
        return type_

    def _by_keywords(self, schema: Schema, rules: set[str], name: str) -> Type:
        if not rules:
            return make("any")
        if "$ref" in rules or "allOf" in rules:
            if rules == {"$ref"}:
                return self._reference(schema["$ref"])
            whole = merge_all_of(schema, self.document.definitions)
            return self._by_keywords(whole, assertions(whole), name)
        if "enum" in rules or "const" in rules:
            return choice(schema, rules)
        for keyword in ("oneOf", "anyOf"):
            if keyword in rules:
                return self._alternatives(schema, keyword, rules)
        kinds = schema.get("type") or self._implied_type(schema)
        if isinstance(kinds, list):
            return union(*(self._by_type(kind, schema, name) for kind in kinds))
        return self._by_type(kinds, schema, name)

    def _implied_type(self, schema: Schema) -> str:
        """Return the type that function descriptions of other languages imply without `type`."""
        for keyword, kind in (("properties", "object"), ("items", "array")):
            if self.document.foreign and keyword in schema:
                return kind
        raise BeyondTypes("it has rules, but no type")

    def _by_type(self, kind: str, schema: Schema, name: str) -> Type:
        rules = assertions(schema, kind) - {"type"}
        match kind:
            case "null":
                return make("none", constraints=no_rules(rules))
            case "boolean":
                return make("bool", constraints=no_rules(rules))
            case "string":
                return string(schema, rules)
            case "integer" | "number":
                return number(kind, schema, rules)
            case "array":
                return self._array(schema, rules)
        return self._object(schema, rules, name)

    def _reference(self, ref: str) -> Type:
        name = ref.rpartition("/")[2]
        for open_name, title in reversed(self._open_names):
            if open_name == name:
                if title:
                    return Type("ref", title=title)
                raise BeyondTypes("it refers to itself outside of an object")
        return self._read(self.document.definitions[name], name)

    def _alternatives(self, schema: Schema, keyword: str, rules: set[str]) -> Type:
        if rules - {keyword, "type"}:
            raise BeyondTypes(f"it has other rules besides {keyword!r}")
        parts = schema[keyword]
        if "type" in rules:
            shared = {"type": schema["type"]}
            parts = [
                merge_all_of({"allOf": [shared, part]}, self.document.definitions) for part in parts
            ]
        type_ = union(*(self._read(part) for part in parts))
        tag = schema.get("discriminator")
        word = tag.get("propertyName") if isinstance(tag, Mapping) else None
        if keyword == "oneOf" and not word:
            word = common_tag(type_)
        if isinstance(word, str) and type_.kind == "union":
            return tagged(type_, word)
        if (
            keyword == "oneOf"
            and len(parts) > 1
            and not are_disjoint(parts, self.document.definitions)
        ):
            raise BeyondTypes("the alternatives of 'oneOf' overlap")
        return type_

    def _array(self, schema: Schema, rules: set[str]) -> Type:
        items, places = schema.get("items", True), schema.get("prefixItems")
        if places is not None:
            is_closed = items is False or schema.get("maxItems") == len(places)
            if rules - {"prefixItems", "items", "minItems", "maxItems"} or not is_closed:
                raise BeyondTypes("a list with fixed first items and other rules")
            if schema.get("minItems") != len(places) or schema.get("maxItems", len(places)) < len(
                places
            ):
                raise BeyondTypes("a list with fixed first items, of any length")
            return make("tuple", *(self._read(part) for part in places))
        no_rules(rules - {"items", "minItems", "maxItems", "uniqueItems"})
        if items is False:
            raise BeyondTypes("a list without items")
        names = {"minItems": "min_items", "maxItems": "max_items", "uniqueItems": "unique"}
        constraints = {name: schema[word] for word, name in names.items() if word in schema}
        args = [self._read(items)] if items not in (True, {}) else []
        return make("list", *args, constraints=constraints)

    def _object(self, schema: Schema, rules: set[str], name: str) -> Type:
        extra = schema.get("additionalProperties", True)
        if not schema.get("properties") and extra is not False:
            return self._mapping(schema, rules)
        no_rules(rules - {"properties", "required", "additionalProperties"})
        properties = schema.get("properties", {})
        if extra not in (True, False, {}):
            raise BeyondTypes("additional properties have a schema")
        if set(schema.get("required", ())) - properties.keys():
            raise BeyondTypes("it requires a property that it does not declare")
        title = self._title(schema, name)
        if name:
            self._open_names[-1] = (name, title)
        else:
            self._open_names.append(("", title))
        members = tuple(self._members(schema, self._read))
        if name:
            self._open_names[-1] = (name, "")
        else:
            self._open_names.pop()
        return object_type(title, members, constraints={} if extra is False else {"extra": "allow"})

    def _members(self, schema: Schema, to_type: Callable[[Any], Type]) -> list[Member]:
        """Return the properties of an object schema, with types by `to_type`."""
        required = schema.get("required", [])
        members = []
        for word, part in schema.get("properties", {}).items():
            type_ = to_type(part)
            desc = _description(part)
            has_default = isinstance(part, Mapping) and word not in required
            default = part.get("default", MISSING) if has_default else MISSING
            if default is not MISSING and not _fits(type_, default):
                desc, default = f"{desc} (default: {default!r})".strip(), MISSING
            members.append(Member(word, type_, desc, is_required=word in required, default=default))
        return members

    def _title(self, schema: Schema, name: str) -> str:
        wish = str(schema.get("title") or name)
        word = "".join(
            char if char.isascii() and (char.isalnum() or char == "_") else "_" for char in wish
        )
        word = f"_{word}" if word[:1].isdigit() else word
        titles = {title for _, title in self._open_names}
        number, title = 2, word or ("Object" if name else "")
        while title and title in titles:
            title, number = f"{word}{number}", number + 1
        return title

    def _mapping(self, schema: Schema, rules: set[str]) -> Type:
        no_rules(
            rules
            - {
                "properties",
                "required",
                "additionalProperties",
                "propertyNames",
                "minProperties",
                "maxProperties",
            }
        )
        sizes = {"minProperties": "min_size", "maxProperties": "max_size"}
        constraints: dict[str, Any] = {
            name: schema[word] for word, name in sizes.items() if word in schema
        }
        if schema.get("required"):
            constraints["required_keys"] = schema["required"]
        extra, names = schema.get("additionalProperties", True), schema.get("propertyNames")
        if extra is True and names is None:
            return make("dict", constraints=constraints)
        value = make("any") if extra is True else self._read(extra)
        return make(
            "dict", make("str") if names is None else key(names), value, constraints=constraints
        )


def _is_within_limits(members: Sequence[Member]) -> bool:
    """Whether one signature can have all of `members`."""
    names = (f"f{at}" for at in range(len(members)))
    fields = [
        Field(name=name, type=member.type, role="output")
        for name, member in zip(names, members, strict=True)
    ]
    try:
        check_size("a schema", fields)
    except SignatureError:
        return False
    return True


def _size(schema: Any) -> int:
    """Return the approximate number of schemas in JSON data."""
    count, pending = 0, [schema]
    while pending:
        part = pending.pop()
        count += 1
        if isinstance(part, Mapping):
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    return count // 3  # most schemas have one or two keywords


def _description(schema: Any) -> str:
    """Return the description of a property, including that of the items of a list."""
    if not isinstance(schema, Mapping):
        return ""
    text, items = str(schema.get("description", "")), _description(schema.get("items"))
    return text if items in text else f"{text} (each item: {items})".strip()


def _fits(type_: Type, default: Any) -> bool:
    field = Field(name="default", type=type_, role="input", default=default)
    if refers_outside(type_):
        return False
    if is_plain_default(field):
        return True
    try:
        return bool(check_default(field)[1] == default)
    except (InputError, SignatureError):
        return False
