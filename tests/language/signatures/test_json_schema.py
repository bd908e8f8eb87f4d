"""Schemas from elsewhere: a rule is enforced or refused, and `jsonschema` is the judge of which."""

import contextlib
import json
import time
from itertools import product
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from dspex.errors import InputError, SignatureError
from dspex.language.signatures import Signature, type_text
from dspex.language.signatures.providers import PROVIDERS
from tests.support.properties import examples

JUDGE = jsonschema.Draft202012Validator
NAMES = ["a", "b", "cc"]
usual = examples(60, suppress_health_check=list(HealthCheck))


def whole(schema: Any) -> Signature:
    return Signature.from_json_schema(schema, field="x")


def is_accepted(signature: Signature, values: dict[str, Any], mode: Any = "strict") -> bool:
    try:
        signature.validate_outputs(values, mode=mode)
    except InputError:
        return False
    return True


def out_of(signature: Signature, values: dict[str, Any], mode: Any = "coerce") -> dict[str, Any]:
    return signature.output_validator.dump(signature.validate_outputs(values, mode=mode))


texts = st.sampled_from(["", "a", "ab", "b", "cc", "1"])
scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, 1, 2, 3, -1, 1.0, 2.5, 0.5]), texts
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)
counts = st.integers(0, 3)
patterns = st.sampled_from(["^a", "b$", "^[a-c]+$", "c{2}"])
RULES: dict[str, Any] = {
    "enum": st.lists(values, min_size=1, max_size=3), "const": values,
    "minimum": st.sampled_from([0, 1, 1.5]), "maximum": st.sampled_from([1, 2, 2.5]),
    "exclusiveMinimum": counts,
    "exclusiveMaximum": counts, "multipleOf": st.sampled_from([1, 2, 0.5]), "minLength": counts,
    "maxLength": counts,
    "pattern": patterns, "minItems": counts, "maxItems": counts, "uniqueItems": st.booleans(),
    "minContains": counts,
    "maxContains": counts, "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
    "minProperties": counts, "maxProperties": counts,
    "dependentRequired": st.dictionaries(st.sampled_from(NAMES), st.just(["a"]), max_size=2),
}  # fmt: skip
KINDS = ["string", "integer", "number", "boolean", "null", "array", "object"]
kinds = st.sampled_from(KINDS) | st.lists(
    st.sampled_from(KINDS), min_size=1, max_size=3, unique=True
)


@st.composite
def rules(draw, inner):
    """A schema: a type or none, some plain rules, some that hold schemas."""
    schema: dict[str, Any] = {"type": draw(kinds)} if draw(st.integers(0, 3)) else {}
    for name in draw(st.lists(st.sampled_from(sorted(RULES)), max_size=2, unique=True)):
        schema[name] = draw(RULES[name])
    some = st.lists(inner, min_size=1, max_size=3)
    properties = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    holders = {
        "properties": properties, "patternProperties": st.dictionaries(patterns, inner, max_size=2),
        "additionalProperties": inner, "propertyNames": inner, "dependentSchemas": properties,
        "unevaluatedProperties": inner, "items": inner, "prefixItems": some, "contains": inner,
        "unevaluatedItems": inner,
        "allOf": some, "anyOf": some, "oneOf": some, "not": inner, "if": inner, "then": inner,
        "else": inner,
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from(sorted(holders)), max_size=2, unique=True)):
        schema[name] = draw(holders[name])
    return schema


@st.composite
def tidy_objects(draw, inner):
    """What people write: an object with properties, some required, closed or not."""
    properties = draw(st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=3))
    schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if draw(st.booleans())],
    }
    return schema | draw(
        st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": True}])
    )


references = st.sampled_from(["#/$defs/one", "#/$defs/two"]).map(lambda ref: {"$ref": ref})
below = st.one_of(
    references.map(lambda ref: {"type": "array", "items": ref}),
    references.map(lambda ref: {"additionalProperties": ref}),
    references.map(lambda ref: {"type": "object", "properties": {"a": ref}}),
)
schemas = st.recursive(
    st.booleans() | kinds.map(lambda kind: {"type": kind}) | below,
    lambda inner: (
        rules(inner)
        | tidy_objects(inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"oneOf": parts})
    ),
    max_leaves=6,
)
documents = st.builds(
    lambda root, first, second: (
        {**root, "$defs": {"one": first, "two": second}} if isinstance(root, dict) else root
    ),
    schemas | references,
    schemas,
    schemas,
)


@usual
@given(documents, st.lists(values, min_size=1, max_size=5))
def test_strict_mode_says_what_the_schema_says(schema, candidates):
    signature = whole(schema)
    for value in candidates:
        assert is_accepted(signature, {"x": value}) == JUDGE(schema).is_valid(value), value


@usual
@given(documents, st.lists(values, min_size=1, max_size=5))
def test_coercing_accepts_what_is_valid_and_makes_nothing_that_is_not(schema, candidates):
    signature = whole(schema)
    for value in candidates:
        if JUDGE(schema).is_valid(value) or is_accepted(signature, {"x": value}, "coerce"):
            assert JUDGE(schema).is_valid(out_of(signature, {"x": value})["x"]), value


@usual
@given(documents, st.lists(values, min_size=1, max_size=5))
def test_the_exported_schema_says_the_same_and_is_read_back(schema, candidates):
    signature = whole(schema)
    exported = signature.to_json_schema()
    JUDGE.check_schema(exported)
    again = Signature.from_json_schema(exported)
    for provider, strict in product(PROVIDERS, (None, False)):
        with contextlib.suppress(SignatureError):
            signature.to_json_schema(provider, purpose="structured", strict=strict)
    for value in candidates:
        valid = JUDGE(schema).is_valid(value)
        assert JUDGE(exported).is_valid({"x": value}) == valid, value
        assert is_accepted(again, {"x": value}) == valid, value


@usual
@given(documents)
def test_a_schema_survives_storage_and_text(schema):
    signature = whole(schema)
    stored = json.loads(json.dumps(signature.to_dict(), sort_keys=True))
    for again in (Signature.from_dict(stored), Signature(str(signature))):
        assert again == signature
        assert again.content_hash == signature.content_hash


@usual
@given(
    tidy_objects(schemas),
    schemas,
    schemas,
    st.lists(st.dictionaries(st.sampled_from(NAMES), values), min_size=1),
)
def test_properties_as_fields_say_the_same(root, first, second, candidates):
    schema = {**root, "$defs": {"one": first, "two": second}}
    signature = Signature.from_json_schema(schema)
    fields = signature.output_fields
    for value in candidates:
        # a field that is left out is null, and there are no others
        if value.keys() <= fields.keys() and all(
            item is not None or fields[name].is_required for name, item in value.items()
        ):
            assert is_accepted(signature, value) == JUDGE(schema).is_valid(value), value


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"minimum": 3}, "text", 2),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, {"b": 1},
         {"b": "x"}),
        ({"type": "object", "properties": {"a": {}}, "minProperties": 1}, {"a": 1}, {}),
        ({"type": "object", "properties": {"a": {}}, "propertyNames": {"maxLength": 1}}, {"a": 1},
         {"bb": 1}),
        ({"type": "object", "properties": {"a": {}}, "required": ["b"]}, {"b": 1}, {"a": 1}),
        ({"type": "object", "properties": {"a": {}}, "dependencies": {"a": ["b"]}},
         {"a": 1, "b": 1}, {"a": 1}),
        ({"$ref": "#/$defs/n", "minimum": 5, "$defs": {"n": {"type": "integer"}}}, 5, 4),
        ({"enum": [1, 2], "maximum": 1}, 1, 2),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}], "minLength": 2}, "ab", "a"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 1, 3),
        ({"allOf": [{"type": "integer"}, {"type": "string"}]}, None, 1),
        ({"$defs": {"n": {"$anchor": "here", "type": "integer"}}, "items": {"$ref": "#here"}}, [1],
         ["x"]),
        ({"prefixItems": [{"type": "integer"}], "items": False}, [], [1, 2]),
        ({"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]},
         {"a": None}, {}),
        ({"type": "array", "uniqueItems": True}, [1, True], [1, 1.0]),
        ({"patternProperties": {"^a": {"type": "integer"}}}, {"a1": 1, "b": "x"}, {"a1": "x"}),
        ({"not": {"type": "integer"}}, "x", 1),
        ({"if": {"type": "integer"}, "then": {"minimum": 3}, "else": {"type": "string"}}, 3, 1),
        ({"type": "array", "items": {"$ref": "#"}}, [[], [[]]], [1]),
        ({"type": "object", "additionalProperties": {"$ref": "#"}}, {"a": {"b": {}}},
         {"a": {"b": 1}}),
    ],
)  # fmt: skip
def test_a_rule_that_was_once_dropped_is_enforced(schema: Any, good: Any, bad: Any) -> None:
    signature = whole(schema)
    if good is not None:
        assert is_accepted(signature, {"x": good})
        assert is_accepted(signature, {"x": good}, "coerce")
    assert not is_accepted(signature, {"x": bad})
    assert not is_accepted(signature, {"x": bad}, "coerce")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "https://example.org/other.json"}, "nothing is fetched"),
        ({"$ref": "#/$defs/none"}, "has no target"),
        ({"type": "string", "pattern": "a(?=b)"}, "linear time"),
        ({"patternProperties": {"(a)\\1": {}}}, "linear time"),
        ({"type": "text"}, "unknown type 'text'"),
        ({"minLength": "3"}, "expected a whole number"),
        ({"properties": {"a": 3}}, "#/properties/a: expected a schema"),
        ({"multipleOf": 0}, "multipleOf"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_the_reason(schema: Any, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        whole(schema)


@pytest.mark.parametrize(
    "pattern",
    [
        "^(?!a)b",
        "^(?!a$)[ab]*$",
        "^(?=.*b)(?!b)a",
        "^(?![ab)(]|c\\))",
        "^(?!(a|b))(c|a)",
        "^[\\w-_]+$",
        "^(?!a)b|c",
        "b(?!a)",
    ],
)  # fmt: skip
def test_look_ahead_at_the_beginning_is_two_patterns(pattern: str) -> None:
    import re

    legal = pattern.replace("-_", "\\-_")
    for schema in ({"pattern": pattern}, {"type": "string", "pattern": pattern}):
        if pattern in {"^(?!a)b|c", "b(?!a)"}:
            with pytest.raises(SignatureError, match="linear time"):
                whole(schema)
            continue
        for text in ("", "a", "b", "ab", "ba", "aa", "c", "ca", "c)", "(", "a-b"):
            assert is_accepted(whole(schema), {"x": text}) == bool(re.search(legal, text)), text
        assert is_accepted(whole(schema), {"x": 1}) == ("type" not in schema)


@usual
@given(
    st.sampled_from(["^(?!a)", "^(?!b$)[abc]+$", "^(?=.*c)(?!a|b)", "^(?!(a|cc)$)."]),
    schemas,
    st.dictionaries(st.sampled_from(NAMES), schemas, max_size=2),
    st.fixed_dictionaries({}, optional={"propertyNames": schemas, "minProperties": counts}),
    st.lists(st.dictionaries(st.sampled_from([*NAMES, "ab", ""]), values, max_size=3), min_size=4),
)
def test_look_ahead_in_the_only_pattern_of_a_closed_object(
    pattern: str, part: Any, properties: Any, others: Any, tests: list[Any]
) -> None:
    closed = {
        "properties": properties,
        "patternProperties": {pattern: part},
        "additionalProperties": False,
        **others,
    }
    for outer in (closed, {"allOf": [closed], "unevaluatedProperties": False}, {"not": closed}):
        schema = {**outer, "$defs": {"one": {"type": "string"}, "two": {"maximum": 1}}}
        signature = whole(schema)
        exported = JUDGE(signature.to_json_schema())
        for value in (*tests, {}, {"ab": 1}, {"b": "a"}, {"cc": None}, 1):
            valid = JUDGE(schema).is_valid(value)
            assert is_accepted(signature, {"x": value}) == valid, (schema, value)
            assert exported.is_valid({"x": value}) == valid, (schema, value)


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {"^(?!a)b": {"type": "null"}}},
        {"patternProperties": {"^(?!a)b": True, "^c": True}, "additionalProperties": False},
        {"patternProperties": {"b(?!a)": True}, "additionalProperties": False},
        {"patternProperties": {"^(?!a(?=b))b": True}, "additionalProperties": False},
    ],
)
def test_look_ahead_in_other_names_of_properties_is_refused(schema: Any) -> None:
    with pytest.raises(SignatureError, match="linear time"):
        whole(schema)


def test_rules_for_several_properties_make_one_field_and_are_refused_of_a_tool() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    signature = Signature.from_json_schema(schema)
    assert list(signature.output_fields) == ["value"]
    assert not is_accepted(signature, {"value": {}})
    tool = {"name": "find", "parameters": schema}
    with pytest.raises(SignatureError, match="field='arguments'"):
        Signature.from_json_schema(tool)
    assert list(Signature.from_json_schema(tool, field="arguments").input_fields) == ["arguments"]


def test_references_are_kept_and_shared() -> None:
    wide = {
        "type": "object",
        "properties": {f"p{at}": {"$ref": "#/$defs/n"} for at in range(60)},
        "minProperties": 1,
    }
    schema = {"$ref": "#/$defs/n", "$defs": {"n": wide}}
    signature = whole(schema)
    assert len(json.dumps(signature.to_dict())) < 3 * len(json.dumps(schema))
    assert signature.to_json_schema()["$defs"].keys() == {"n"}
    chain: dict[str, Any] = {
        f"d{at}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{at + 1}"}] * 4}
        for at in range(9)
    }
    deep = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/d0"}},
        "$defs": {**chain, "d9": {"type": "integer"}},
    }
    assert len(json.dumps(Signature.from_json_schema(deep).to_dict())) < 10 * len(json.dumps(deep))


def test_a_schema_outside_is_read_where_it_is_given() -> None:
    external = {"$defs": {"n": {"type": "integer", "minimum": 3}}}
    schema = {"$id": "https://example.org/a.json", "items": {"$ref": "b.json#/$defs/n"}}
    signature = Signature.from_json_schema(
        schema, field="x", resources={"https://example.org/b.json": external}
    )
    assert is_accepted(signature, {"x": [3]})
    assert not is_accepted(signature, {"x": [2]})


def test_earlier_drafts_mean_what_they_meant() -> None:
    old = {
        "$schema": "http://json-schema.org/draft-04/schema#", "id": "https://example.org/s",
        "definitions": {"n": {"type": "integer"}},
        "items": [{"$ref": "#/definitions/n"}],
        "additionalItems": {"minimum": 3, "exclusiveMinimum": True},
    }  # fmt: skip
    assert [is_accepted(whole(old), {"x": value}) for value in ([], [1, 4], [1, 3], ["x"])] == [
        True,
        True,
        False,
        False,
    ]


def test_formats_are_rules_wherever_they_stand() -> None:
    for schema in (
        {"type": "string", "format": "date"},
        {"format": "date"},
        {"additionalProperties": {"format": "date"}},
    ):
        bad, good = (
            ("soon", "2026-01-01")
            if "additionalProperties" not in schema
            else ({"a": "soon"}, {"a": "2026-01-01"})
        )
        assert [is_accepted(whole(schema), {"x": value}) for value in (good, bad)] == [True, False]
    assert is_accepted(whole({"format": "idn-email"}), {"x": "anything"})


def test_an_error_says_what_is_wrong_and_where() -> None:
    signature = whole(
        {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "minProperties": 1}
    )
    with pytest.raises(InputError) as caught:
        signature.validate_outputs({"x": {"ab": "text"}})
    assert "['ab']: the value is not of type" in caught.value.fields[0].message
    assert "text" not in type_text(signature.fields["x"].type)


def alternatives(depth: int) -> Any:
    """Two kinds of node that both look at the same child."""
    parts = [{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/two"}]
    first = {"type": "object", "properties": {"c": {"$ref": "#/$defs/node"}}, "maxProperties": 5}
    definitions: dict[str, Any] = {
        "node": {"oneOf": parts},
        "one": first,
        "two": {**first, "maxProperties": 6},
    }
    for at in range(depth):
        definitions[f"u{at}"] = {"allOf": [{"$ref": f"#/$defs/u{at + 1}"}] * 2}
    definitions[f"u{depth}"] = {"type": "integer"}
    return {"$defs": definitions}


def test_alternatives_that_multiply_take_no_time() -> None:
    value: Any = 1
    for _ in range(150):
        value = {"c": value}
    start = time.process_time()
    assert not is_accepted(whole({**alternatives(0), "$ref": "#/$defs/node"}), {"x": value})
    with pytest.raises(InputError, match="too large for the alternatives"):
        whole({**alternatives(60), "$ref": "#/$defs/u0"}).validate_outputs({"x": 1})
    assert time.process_time() - start < 2


@pytest.mark.parametrize("keyword", ["allOf", "items", "not", "properties"])
def test_a_schema_that_is_too_deep_is_refused(keyword: str) -> None:
    schema: Any = {"type": "integer"}
    for _ in range(3000):
        schema = {
            keyword: [schema]
            if keyword == "allOf"
            else {"a": schema}
            if keyword == "properties"
            else schema
        }
    with pytest.raises(SignatureError, match="nested deeper"):
        whole(schema)


def test_a_schema_that_is_too_large_is_refused() -> None:
    with pytest.raises(SignatureError, match="more than"):
        whole({"anyOf": [{"type": "integer"}] * 60_000})
