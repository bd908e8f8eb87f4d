"""Checks values by JSON Schema, for rules that no type expresses.

`jsonschema-rs` does the checks; it is imported with the first such rule. Its regular expressions
run in linear time, it fetches nothing, and the cost of one value is limited in advance; see
`docs/design/0011-json-schema.md`.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dspex.errors import SignatureError
from dspex.language.signatures.kinds import FORMATS
from dspex.language.signatures.limits import check_limit
from dspex.language.signatures.patterns import schema_pattern_states
from dspex.language.signatures.schema_keywords import subschemas, with_subschemas

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

Schema = Mapping[str, Any]
STEPS = 100_000_000  # a few seconds at worst; typical values take a thousandth
_MAX_EXPLAINED_STEPS = 100_000
_PATTERN_BYTES = 2 * 1024 * 1024
_MAX_FAULTS = 3
_NOT_A_PATTERN = ' is not a "regex"'


class SchemaCheck:
    """One compiled schema. Thread-safe."""

    def __init__(self, schema: Schema) -> None:
        """Compile `schema`, which may refer only to its `$defs`.

        Raises:
            SignatureError: it is not a JSON Schema 2020-12, or has a pattern that is not
            linear-time.
        """
        self.patterns = tuple(_patterns(schema))
        check_limit(
            "all_pattern_states", sum(map(schema_pattern_states, _patterns(schema))), "a schema"
        )
        self._validator = _validator(schema)
        self._cost = _Cost(schema)

    @property
    def steps_each(self) -> int:
        """The maximum number of steps for one value inside a value."""
        return self._cost.each

    def problem(self, value: Any) -> str:
        """Return what is wrong with `value`, or an empty text."""
        steps = self._cost.of(value)
        if steps > STEPS:
            return (
                f"is too large for the alternatives of its schema: about {steps:,} steps, more "
                f"than {STEPS:,}"
            )
        try:
            if self._validator.is_valid(value):
                return ""
        except UnicodeEncodeError:
            return "contains half a surrogate pair, which is not valid text"
        except ValueError as error:  # a value that JSON cannot represent
            return f"is not JSON: {error!s:.200}"
        # only the verdict has a bounded cost there
        if steps > _MAX_EXPLAINED_STEPS or self._cost.is_recursive:
            return "does not fit its schema"
        texts = []
        for fault in self._validator.iter_errors(value):
            place = "".join(f"[{part!r}]" for part in fault.instance_path)
            texts.append(f"{place or 'the value'}: {fault.message:.200}")
            if len(texts) == _MAX_FAULTS:
                break
        return f"does not fit its schema: {'; '.join(texts)}"


def _patterns(schema: Schema) -> Iterator[str]:
    pending: list[Any] = [schema, *schema.get("$defs", {}).values()]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            if isinstance(part.get("pattern"), str):
                yield part["pattern"]
            yield from part.get("patternProperties", ())
            pending.extend(inner for _, inner in subschemas(part))


def schema_check(schema: Schema) -> SchemaCheck:
    """Return the compiled form of `schema`; equal schemas share one.

    Raises:
        SignatureError: as for `SchemaCheck`.
    """
    return _compile(json.dumps(schema))


@lru_cache(maxsize=256)
def _compile(text: str) -> SchemaCheck:
    return SchemaCheck(json.loads(text))


def with_format_patterns(schema: Any) -> Any:
    """Return `schema` with each known format written out as the pattern that our types use."""
    if not isinstance(schema, Mapping):
        return schema
    result = with_subschemas(schema, with_format_patterns)
    if "$defs" in result:
        result["$defs"] = {
            name: with_format_patterns(part) for name, part in result["$defs"].items()
        }
    shape = FORMATS.get(result.get("format", ""))
    if shape is not None:
        if "pattern" in result:
            result["allOf"] = [*result.get("allOf", ()), {"pattern": shape}]
        else:
            result["pattern"] = shape
    return result


def _validator(schema: Schema) -> "Draft202012Validator":
    from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

    limits = RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES)
    try:
        return Draft202012Validator(
            with_format_patterns(schema),
            pattern_options=limits,
            validate_formats=False,
            offline=True,
            mask="the value",
        )
    except ValidationError as error:
        if error.message.endswith(_NOT_A_PATTERN):
            raise SignatureError(
                f"the pattern {error.instance!r:.200} cannot be matched in linear time "
                "(look-around and back-references cannot), or is too large; write it without them",
                constraint="schema",
            ) from None
        place = "/".join(map(str, error.instance_path))
        raise SignatureError(
            f"this is not a JSON Schema: {place}: {error.message:.300}", constraint="schema"
        ) from None
    except (ValueError, TypeError) as error:
        raise SignatureError(
            f"this is not a JSON Schema: {error!s:.300}", constraint="schema"
        ) from None


class _Cost:
    """An upper bound of the schema parts that are compared with one part of a value.

    Alternatives multiply: a definition that two alternatives refer to is checked twice. In a cycle
    the validator caches its results, so that each definition of the cycle counts once.
    """

    def __init__(self, schema: Schema) -> None:
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        self._costs: dict[str, int] = {}
        self._open: dict[str, None] = {}
        self.is_recursive = False
        self._whole = self._of_schema(schema, 0)

    @property
    def each(self) -> int:
        """The bound for one part of a value."""
        return self._whole

    def of(self, value: Any) -> int:
        """Return the bound for one value."""
        return self._whole * (_parts(value) if self._whole > 1 else 1)

    def _of_schema(self, schema: Any, depth: int) -> int:
        if not isinstance(schema, Mapping):
            return 1
        if depth > 400:
            return STEPS + 1
        total, deepest = 1, 0
        if "$ref" in schema:
            total += self._of_reference(schema["$ref"].rpartition("/")[2], depth)
        for keyword, part in subschemas(schema):
            cost = self._of_schema(part, depth + 1)
            if keyword == "properties":  # only one of them applies to a part of the value
                deepest = max(deepest, cost)
            else:
                total += cost
        total += deepest + sum(len(schema[name]) for name in ("enum",) if name in schema) // 16
        return min(total, STEPS + 1)

    def _of_reference(self, name: str, depth: int) -> int:
        if name in self._open:
            self.is_recursive = True
            return 1
        if name not in self._costs:
            self._open[name] = None
            cost = self._of_schema(self._definitions.get(name, True), depth + 1)
            del self._open[name]
            self._costs[name] = cost
        return self._costs[name]


def _parts(value: Any) -> int:
    """Return the number of values in `value`, including itself; shared containers count once."""
    count, pending, visited = 1, [value], {id(value)}
    while pending:
        part = pending.pop()
        inside = (
            part.values()
            if isinstance(part, dict)
            else part
            if isinstance(part, list | tuple)
            else ()
        )
        count += len(inside)
        for child in inside:
            if isinstance(child, dict | list | tuple) and id(child) not in visited:
                visited.add(id(child))
                pending.append(child)
    return count
