"""Generates example values of JSON Schemas: tries candidates until one is valid."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from itertools import chain, islice, product
from typing import Any

from dspex.errors import SignatureError
from dspex.language.signatures.pattern_examples import matching_text
from dspex.language.signatures.schema_check import schema_check
from dspex.language.signatures.schema_keywords import KEYWORDS, TYPES
from dspex.language.signatures.schema_merge import merge_all_of

_DEPTH = 6
_TRIES = 60
_FEW = 4
_CHECKS = 100  # of parts; each compiles a schema


def schema_example(
    schema: Mapping[str, Any], formats: Mapping[str, str], name: str, *, number: int
) -> Any:
    """Return a value that is valid by `schema`; `formats` has a text of each known format.

    Raises:
        SignatureError: no value was found.
    """
    check = schema_check(schema)
    maker = _CandidateBuilder(schema.get("$defs", {}), formats, name, number=number)
    for value in islice(maker.values(schema, 0), _TRIES):
        if not check.problem(value):
            return value
    raise SignatureError("no value was found that fits its JSON Schema; give the field a default")


class _CandidateBuilder:
    """Generates values that may be valid, likely ones first."""

    def __init__(
        self, definitions: Mapping[str, Any], formats: Mapping[str, str], name: str, *, number: int
    ) -> None:
        self._definitions = definitions
        self._formats = formats
        self._text = f"{name}-{number % 1000}"
        self._number = number
        self._checks = iter(range(_CHECKS))

    def values(self, schema: Any, depth: int) -> Iterator[Any]:
        """Yield candidates for one schema."""
        if not isinstance(schema, Mapping):
            schema = {}
        if {"$ref", "allOf"} & schema.keys():
            try:
                schema = merge_all_of(dict(schema), self._definitions)
            except SignatureError:
                schema = self._resolve(schema)
        yield from schema.get("enum", ())
        yield from (schema[key] for key in ("const", "default") if key in schema)
        yield from schema.get("examples", ())
        if depth > _DEPTH:
            return
        shared = {key: value for key, value in schema.items() if key not in _CHOICES}
        for parts in _alternatives(schema):
            yield from islice(self.values({"allOf": [shared, *parts]}, depth + 1), _FEW)
        kinds = schema.get("type", self._implied_types(schema))
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            yield from self._of_type(kind, schema, depth)
        if depth == 0:
            yield from (None, True, 0, "", [], {}, self._text, [0], 1.5)

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" in schema:
            target = self._definitions[schema["$ref"].rpartition("/")[2]]
            return target if isinstance(target, Mapping) else {}
        return {key: value for key, value in schema.items() if key != "allOf"}

    def _implied_types(self, schema: Mapping[str, Any]) -> list[str]:
        """Return the types that the rules of a schema apply to, then all others."""
        kinds = [KEYWORDS[name].kind for name in schema if name in KEYWORDS and KEYWORDS[name].kind]
        return list(dict.fromkeys([*kinds, *TYPES]))

    def _of_type(self, kind: str, schema: Mapping[str, Any], depth: int) -> Iterator[Any]:
        match kind:
            case "null":
                yield None
            case "boolean":
                yield from (True, False)
            case "string":
                yield from self._texts(schema)
            case "integer" | "number":
                yield from self._numbers(schema)
            case "array":
                yield self._list(schema, depth)
            case "object":
                yield self._mapping(schema, depth)

    def _first(self, schema: Any, depth: int) -> Any:
        """Return the first valid candidate for a nested schema, or else the first candidate."""
        check = None
        if isinstance(schema, Mapping) and next(self._checks, None) is not None:
            check = schema_check({**schema, "$defs": dict(self._definitions)})
        candidates = list(islice(self.values(schema, depth + 1), 2 * _FEW)) or [self._text]
        fitting = (value for value in candidates if check is None or not check.problem(value))
        return next(fitting, candidates[0])

    def _texts(self, schema: Mapping[str, Any]) -> Iterator[str]:
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        if schema.get("format") in self._formats:
            yield self._formats[schema["format"]]
        if "pattern" in schema:
            try:
                yield matching_text(
                    schema["pattern"], self._number, min_length=least, max_length=most
                )
            except SignatureError:
                return
        yield self._text[: len(self._text) if most == math.inf else int(most)].ljust(least, "x")

    def _numbers(self, schema: Mapping[str, Any]) -> Iterator[float]:
        step = schema.get("multipleOf", 1)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        start = low if low is not None else 0 if high is None or high >= 0 else high
        yield from (start, math.ceil(start / step) * step, math.ceil(start / step) * step + step)
        if high is not None:
            yield from (high, math.floor(high / step) * step, (start + high) / 2)

    def _list(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        places = schema.get("prefixItems", [])
        items = [
            self._first(part, depth)
            for part in places[: max(schema.get("minItems", 0), 1) if places else 0]
        ]
        if "contains" in schema:
            items += [self._first(schema["contains"], depth)] * schema.get("minContains", 1)
        while len(items) < min(schema.get("minItems", 0), 100):
            at = len(items)
            maker = _CandidateBuilder(
                self._definitions, self._formats, f"{self._text}{at}", number=self._number + at
            )
            maker._checks = self._checks  # the same class
            items.append(
                maker._first(places[at] if at < len(places) else schema.get("items"), depth)
            )
        return items

    def _mapping(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        rest = schema.get("additionalProperties", {})
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        required, dependent = list(schema.get("required", ())), schema.get("dependentRequired", {})
        required += [
            dependent_name for name in required for dependent_name in dependent.get(name, ())
        ]
        result = {name: self._first(properties.get(name, rest), depth) for name in required}
        more = chain(
            properties.items(), self._matching(patterns), ((f"key{at}", rest) for at in range(1000))
        )
        for name, part in more:
            if len(result) >= min(schema.get("minProperties", 0), 100):
                break
            if name not in result and part is not False:
                result[name] = self._first(part, depth)
        return result

    def _matching(self, patterns: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield names that match each pattern in turn."""
        for at, (pattern, part) in product(range(20), patterns.items()):
            with contextlib.suppress(SignatureError):
                yield (
                    matching_text(pattern, self._number + at, min_length=0, max_length=math.inf),
                    part,
                )
            yield f"{pattern.strip('^$')}{at}", part


def _alternatives(schema: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield the schemas that apply together, one list per alternative."""
    for keyword in ("anyOf", "oneOf"):
        yield from ([part] for part in schema.get(keyword, ()))
    if "if" in schema:
        yield [schema["if"], schema.get("then", True)]
        yield [{"not": schema["if"]}, schema.get("else", True)]


_CHOICES = frozenset(
    {"default", "examples", "enum", "const", "anyOf", "oneOf", "if", "then", "else"}
)
