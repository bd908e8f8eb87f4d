"""Converts a JSON Schema document of any draft to draft 2020-12, with references `#/$defs/NAME`.

References are kept: each target is a definition, under its name. Nothing is ever fetched.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urljoin

from dspex.error_text import suggest
from dspex.errors import SignatureError
from dspex.language.signatures.kinds import FORMATS
from dspex.language.signatures.schema_keywords import ANNOTATIONS, KEYWORDS, TYPES, subschemas
from dspex.language.signatures.schema_patterns import rewrite_closed_names, without_look_ahead

Schema = dict[str, Any]
PARTS = 50_000
DEPTH = 150
_OLD_DRAFTS = re.compile(r"draft-0[3-7]/")
_CONTAINERS = ("$defs", "definitions")
_REF = "#/$defs/"


class SchemaDocument:
    """One document: its root and its definitions, which refer to each other only by name.

    Attributes:
        root: the root schema.
        root_name: the name of the root in references; empty if nothing refers to it.
        definitions: the targets of references, by name.
        parts: how many schemas the document has, each counted once.
    """

    def __init__(
        self,
        source: Mapping[str, Any] | bool,  # noqa: FBT001
        foreign: Mapping[str, str] | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        """Read the schema `source`.

        Args:
            source: parsed JSON.
            foreign: additional type names and their JSON types. If given, keywords in the form of
                other languages (`required: true`) are ignored.
            resources: additional schemas for references, by URI.

        Raises:
            SignatureError: it is not a schema, has an unknown reference, or is too large; the
                message contains the path.
        """
        self.foreign = foreign or {}
        self.parts = 0
        self.definitions: dict[str, Schema | bool] = {}
        self._index = _ReferenceIndex(source, resources or {})
        self._names: dict[object, str] = {}
        self._pending: list[tuple[str, Any, str, str]] = []
        self._closures: dict[str, tuple[str, ...]] = {}
        if isinstance(source, Mapping):
            self.is_old = bool(_OLD_DRAFTS.search(str(source.get("$schema", ""))))
        else:
            self.is_old = False
        self.root = self._convert(source, "", "#")
        while self._pending:
            name, node, base, pointer = self._pending.pop()
            self.definitions[name] = (
                self.root if node is source else self._convert(node, base, pointer)
            )
        self.root_name = self._names.get(id(source), "")

    def standalone(self, schema: Schema | bool) -> Schema:  # noqa: FBT001
        """Return `schema` with the definitions that it refers to."""
        if isinstance(schema, bool):
            return {} if schema else {"not": {}}
        names: dict[str, None] = {}
        pending = list(references(schema))
        while pending:
            name = pending.pop()
            if name not in names:
                names[name] = None
                if name not in self._closures:
                    self._closures[name] = tuple(references(self.definitions[name]))
                pending.extend(self._closures[name])
        if not names:
            return schema
        return {
            **schema,
            "$defs": {name: self.definitions[name] for name in self.definitions if name in names},
        }

    def _convert(self, node: Any, base: str, pointer: str, *, depth: int = 0) -> Schema | bool:
        self.parts += 1
        if self.parts > PARTS:
            raise SignatureError(f"a schema of more than {PARTS} parts")
        if depth > DEPTH:
            raise SignatureError(f"{pointer}: nested deeper than {DEPTH} levels")
        if isinstance(node, bool):
            return node
        if not isinstance(node, Mapping):
            raise SignatureError(f"{pointer}: expected a schema, an object, not {node!r:.100}")
        base = _base_of(node, base)
        schema: Schema = {}
        for name, value in _modernize(node, is_old=self.is_old).items():
            if name == "$dynamicRef" or (name == "$recursiveRef" and value == "#"):
                schema["$ref"] = self._dynamic(
                    value if name == "$dynamicRef" else "#", base, pointer
                )
            elif name == "$ref":
                schema["$ref"] = self._reference(value, base, pointer)
            elif name in ANNOTATIONS:
                schema[name] = value
            elif name in KEYWORDS:
                self._add(schema, name, value=value, base=base, pointer=pointer, depth=depth)
        return _tidy(schema)

    def _add(
        self,
        schema: Schema,
        name: str,
        *,
        value: Any,
        base: str,
        pointer: str,
        depth: int,
    ) -> None:
        """Check one keyword and add it to `schema`."""
        place = f"{pointer}/{name}"

        def inner(part: Any, at: str) -> Schema | bool:
            return self._convert(part, base, at, depth=depth + 1)

        match KEYWORDS[name].takes:
            case "schema":
                schema[name] = inner(value, place)
            case "schemas":
                _expect(
                    isinstance(value, list) and bool(value), place, "a list of schemas", value=value
                )
                schema[name] = [inner(part, f"{place}/{at}") for at, part in enumerate(value)]
            case "named schemas":
                _expect(isinstance(value, Mapping), place, "an object of schemas", value=value)
                schema[name] = {
                    str(key): inner(part, f"{place}/{key}") for key, part in value.items()
                }
            case "types":
                self._add_types(schema, value, pointer)
            case "names" if self.foreign and not isinstance(value, list):
                pass
            case takes:
                expected, convert = _VALUES[takes]
                schema[name] = convert(value)
                _expect(schema[name] is not _INVALID, place, expected, value=value)

    def _add_types(self, schema: Schema, value: Any, pointer: str) -> None:
        words = value if isinstance(value, list) else [value]
        kinds = []
        for word in words:
            if not isinstance(word, str):
                raise SignatureError(f"{pointer}: a type is a string, not {word!r:.100}")
            kind = self.foreign.get(word, word)
            if kind == "any":
                return
            if kind not in TYPES:
                raise SignatureError(
                    f"{pointer}: unknown type {kind!r:.100}.{suggest(kind[:50], TYPES)}"
                )
            kinds.append(kind)
        _expect(bool(kinds), f"{pointer}/type", "at least one type", value=value)
        schema["type"] = kinds[0] if len(kinds) == 1 else list(dict.fromkeys(kinds))

    def _reference(self, ref: Any, base: str, pointer: str) -> str:
        _expect(isinstance(ref, str), f"{pointer}/$ref", "a string", value=ref)
        node, inner_base, token = self._index.resolve(ref, base, pointer)
        key: object = id(node) if isinstance(node, Mapping) else (inner_base, ref)
        if key not in self._names:
            name = self._free_name(
                token or (str(node.get("title", "")) if isinstance(node, Mapping) else "")
            )
            self._names[key] = name
            self.definitions[name] = {}  # reserves the order of first use
            self._pending.append((name, node, inner_base, ref))
        return _REF + self._names[key]

    def _dynamic(self, ref: Any, base: str, pointer: str) -> str:
        """Resolve a dynamic reference as a plain one; raise if it could mean several anchors."""
        anchor = str(ref).rpartition("#")[2]
        if anchor and self._index.dynamic_anchors.count(anchor) > 1:
            raise SignatureError(
                f"{pointer}: the dynamic reference {ref!r} can mean more than one schema"
            )
        if not anchor and self._index.has_resources:
            raise SignatureError(
                f"{pointer}: a recursive reference in a schema of several resources"
            )
        return self._reference(ref, base, pointer)

    def _free_name(self, wish: str) -> str:
        word = re.sub(r"[^A-Za-z0-9_]+", "_", wish)[:60].strip("_") or "Part"
        name, number = word, 2
        while name in self.definitions:
            name, number = f"{word}_{number}", number + 1
        return name


class _ReferenceIndex:
    """Resolves the references of one document: resources by URI, anchors, and JSON pointers."""

    def __init__(self, root: Any, further: Mapping[str, Any]) -> None:
        self.resources: dict[str, Any] = {}
        self.anchors: dict[tuple[str, str], Any] = {}
        self.dynamic_anchors: list[str] = []
        self._external = {uri.rstrip("#"): schema for uri, schema in further.items()}
        self._walk(root, "")
        self.resources[""] = root
        self.has_resources = len({id(node) for node in self.resources.values()}) > 1

    def _walk(self, root: Any, uri: str) -> None:
        pending: list[tuple[Any, str]] = [(root, uri)]
        while pending:
            node, base = pending.pop()
            if not isinstance(node, Mapping):
                continue
            base = _base_of(node, base)
            if base not in self.resources or _has_resource_id(node):
                self.resources.setdefault(base, node)
            identifier = _id(node)
            if identifier.startswith("#"):
                self.anchors[base, identifier[1:]] = (node, base)
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(node.get(key), str):
                    self.anchors[base, node[key]] = (node, base)
            if isinstance(node.get("$dynamicAnchor"), str):
                self.dynamic_anchors.append(node["$dynamicAnchor"])
            pending.extend((part, base) for part in _raw_subschemas(node))

    def resolve(self, ref: str, base: str, pointer: str) -> tuple[Any, str, str]:
        """Return the target of `ref`, the base URI there, and a name for it."""
        before, _, fragment = ref.partition("#")
        uri = urljoin(base, before) if before else base
        uri = uri.partition("#")[0]
        if uri not in self.resources and uri in self._external:
            self._walk(self._external[uri], uri)
            self.resources.setdefault(uri, self._external[uri])
        if uri not in self.resources:
            raise SignatureError(
                f"{pointer}: the reference {ref!r:.200} points outside the schema, and nothing is "
                "fetched: pass its target as resources={uri: schema}"
            )
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if (uri, fragment) not in self.anchors:
                raise SignatureError(f"{pointer}: the reference {ref!r:.200} has no target")
            node, base = self.anchors[uri, fragment]
            return node, base, fragment
        node, base = self.resources[uri], uri
        tokens = [part.replace("~1", "/").replace("~0", "~") for part in fragment.split("/")[1:]]
        for at, key in enumerate(tokens):
            try:
                node = node[int(key)] if isinstance(node, list) else node[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise SignatureError(
                    f"{pointer}: the reference {ref!r:.200} has no target"
                ) from None
            if isinstance(node, Mapping) and at < len(tokens) - 1:
                base = _base_of(node, base)
        return node, base, tokens[-1] if tokens else ""


def references(schema: Any) -> Iterator[str]:
    """Yield the names of the definitions that a converted schema refers to."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            if "$ref" in node:
                yield node["$ref"].removeprefix(_REF)
            pending.extend(part for _, part in subschemas(node))


def _raw_subschemas(node: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas inside an unchecked schema."""
    for name, value in node.items():
        takes = "named schemas" if name in {*_CONTAINERS, "dependencies"} else None
        takes = takes or (
            "schema"
            if name == "additionalItems"
            else KEYWORDS[name].takes
            if name in KEYWORDS
            else ""
        )
        if takes in {"schema", "schemas"} and isinstance(value, list):
            yield from value
        elif takes == "schema":
            yield value
        elif takes == "named schemas" and isinstance(value, Mapping):
            yield from value.values()


def _id(node: Mapping[str, Any]) -> str:
    uri = node.get("$id", node.get("id"))
    return uri if isinstance(uri, str) else ""


def _has_resource_id(node: Mapping[str, Any]) -> bool:
    return bool(_id(node)) and not _id(node).startswith("#")


def _base_of(node: Mapping[str, Any], base: str) -> str:
    uri = _id(node).partition("#")[0]
    return urljoin(base, uri) if uri else base


def _modernize(node: Mapping[str, Any], *, is_old: bool) -> dict[str, Any]:
    """Return `node` with the keywords of earlier drafts written as in 2020-12."""
    schema = dict(node)
    if not isinstance(schema.get("examples", []), list):
        del schema["examples"]
    if "$ref" in schema and is_old:  # earlier drafts ignore the other keywords
        return {
            name: value for name, value in schema.items() if name == "$ref" or name in ANNOTATIONS
        }
    _modernize_lists(schema)
    _modernize_bounds(schema)
    if isinstance(schema.get("dependencies"), Mapping):
        for name, part in schema["dependencies"].items():
            key = "dependentRequired" if isinstance(part, list) else "dependentSchemas"
            schema[key] = {**schema.get(key, {}), name: part}
    for main, others in (("if", ("then", "else")), ("contains", ("minContains", "maxContains"))):
        if main not in schema:
            for name in others:
                schema.pop(name, None)
    if schema.pop("nullable", False) is True:
        return {
            "anyOf": [schema, {"type": "null"}],
            **{key: schema[key] for key in ANNOTATIONS & schema.keys()},
        }
    return schema


def _modernize_bounds(schema: dict[str, Any]) -> None:
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(flag), bool) and schema.pop(flag) and bound in schema:
            schema[flag] = schema.pop(bound)


def _modernize_lists(schema: dict[str, Any]) -> None:
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        if "additionalItems" in schema:
            schema["items"] = schema["additionalItems"]
        if not schema["prefixItems"]:
            del schema["prefixItems"]


def _tidy(schema: Schema) -> Schema:
    """Normalize: drop keywords without effect, and rewrite look-ahead in patterns."""
    if "pattern" in schema:
        parts = without_look_ahead(schema.pop("pattern"))
        schema["pattern"] = parts.pop()["pattern"]
        if parts:
            schema["allOf"] = [*schema.get("allOf", ()), *parts]
    rewrite_closed_names(schema)
    shape = FORMATS.get(schema.get("format", ""))
    if shape is not None and schema.get("pattern") == shape:
        del schema["pattern"]
    if shape is not None and {"pattern": shape} in schema.get("allOf", ()):
        schema["allOf"] = [part for part in schema["allOf"] if part != {"pattern": shape}]
    for name, empty in (
        ("allOf", []),
        ("required", []),
        ("uniqueItems", False),
        ("patternProperties", {}),
    ):
        if name in schema and schema[name] == empty:
            del schema[name]
    if schema.get("propertyNames") in (True, {}):
        del schema["propertyNames"]
    return schema


_INVALID: Any = object()


def _expect(is_right: bool, place: str, expected: str, *, value: object) -> None:  # noqa: FBT001
    if not is_right:
        raise SignatureError(
            f"{place}: this is not a JSON Schema: expected {expected}, not {value!r:.100}"
        )


def _number(value: Any) -> Any:
    is_number = (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    )
    return value if is_number else _INVALID


def _count(value: Any) -> Any:
    number = _number(value)
    is_count = number is not _INVALID and number >= 0 and number == int(number)
    return int(number) if is_count else _INVALID


def _names(value: Any) -> Any:
    is_right = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return list(dict.fromkeys(value)) if is_right else _INVALID


def _named_names(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return _INVALID
    result = {str(key): _names(names) for key, names in value.items()}
    return _INVALID if any(names is _INVALID for names in result.values()) else result


_VALUES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "number": ("a finite number", _number),
    "count": ("a whole number, 0 or more", _count),
    "text": ("a string", lambda value: value if isinstance(value, str) else _INVALID),
    "flag": ("true or false", lambda value: value if isinstance(value, bool) else _INVALID),
    "names": ("a list of strings", _names),
    "named names": ("an object of lists of strings", _named_names),
    "values": ("a list of values", lambda value: value if isinstance(value, list) else _INVALID),
    "value": ("a value", lambda value: value),
}
