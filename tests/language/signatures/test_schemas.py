import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from dspex.errors import InputError, SignatureError
from dspex.language.signatures import Signature
from dspex.language.signatures.conformance import PROVIDER_NAME, RULES, problems
from dspex.language.signatures.names import original_name, provider_name
from dspex.language.signatures.providers import PROVIDERS
from tests.support.properties import examples


class Person(BaseModel):
    name: str
    home: dict[str, int] = {}


SIGNATURE = Signature(
    "question: str \"what is asked\", limit: int[gt=0, lt=9] = 3, kind: Literal['a', 2] -> "
    "answer: str[max_length=9], "
    "score: probability?, tags: list[str][unique=true, max_items=3], counts: dict[str, int], "
    "pair: tuple[int, str], "
    "who: P{name: str, age?: int, when: str[format='date'] = '2020-01-01'}, pick: int | Q{x: "
    "bool}, "
    "pet: (C{kind: Literal['cat']} | D{kind: Literal['dog']})[tag='kind'], link: "
    "str[format='uri']?, image: Image",
    "Answer.",
    name="qa.best",
)
TREE = Signature("-> tree: Tree{value: int, children: list[Tree]}")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("purpose", ["inputs", "outputs"])
def test_every_dialect_is_valid_and_within_the_documented_limits(provider, purpose):
    schema = SIGNATURE.to_json_schema(provider, purpose=purpose)
    assert problems(provider, schema) == []
    json.dumps(schema)
    if provider != "gemini":  # whose schemas are a subset of OpenAPI's, and no JSON Schema
        jsonschema.Draft202012Validator.check_schema(schema)


def test_strict_form_requires_all_closes_all_and_says_the_rest_in_words():
    schema = SIGNATURE.to_json_schema("openai")
    assert schema["required"] == list(schema["properties"])
    assert schema["properties"]["score"]["anyOf"] == [
        {"type": "number", "maximum": 1, "minimum": 0},
        {"type": "null"},
    ]
    assert "maxLength: 9" in schema["properties"]["answer"]["description"]
    assert "maxLength" not in schema["properties"]["answer"]
    assert schema["properties"]["counts"]["items"]["required"] == ["key", "value"]
    assert schema["properties"]["who"]["properties"]["age"]["type"] == ["integer", "null"]


def test_an_answer_in_strict_form_is_read_back():
    answer = {
        "answer": "x", "score": None, "tags": [], "counts": [{"key": "a", "value": 1}],
        "pair": [1, "a"],
        "who": {"name": "n", "age": 3, "when": "2020-01-01"}, "pick": {"x": True},
        "pet": {"kind": "dog"}, "link": None,
        "image": {"url": "https://x", "media_type": None, "detail": None},
    }  # fmt: skip
    jsonschema.validate(answer, SIGNATURE.to_json_schema("openai"))
    assert SIGNATURE.validate_outputs(answer)["counts"] == {"a": 1}


def test_recursive_types_are_references_or_refused_with_the_reason():
    for provider in ("generic", "openai", "anthropic", "mcp"):
        schema = TREE.to_json_schema(provider)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(
            {"tree": {"value": 1, "children": [{"value": 2, "children": []}]}}, schema
        )
    with pytest.raises(SignatureError, match="recursive types are not supported"):
        TREE.to_json_schema("gemini")


def test_what_a_dialect_cannot_say_is_refused_with_the_reason():
    with pytest.raises(SignatureError, match="a value of any type is not supported"):
        Signature("-> x: any").to_json_schema("openai")
    inside = Signature.from_json_schema(
        {"type": "object", "properties": {"x": {"not": {"properties": {"$a": {}}}}}}
    )
    with pytest.raises(SignatureError, match="give the field another alias"):
        inside.to_json_schema("anthropic")
    with pytest.raises(SignatureError, match="Did you mean 'openai'"):
        SIGNATURE.to_json_schema("opnai")


def test_envelopes_are_those_of_the_providers():
    tool_name = "qa--best"
    assert SIGNATURE.to_json_schema("openai", purpose="tool")["function"]["name"] == tool_name
    assert SIGNATURE.to_json_schema("openai", purpose="tool")["function"]["strict"] is True
    assert (
        SIGNATURE.to_json_schema("openai", purpose="structured")["json_schema"]["name"] == tool_name
    )
    assert SIGNATURE.to_json_schema("anthropic", purpose="tool").keys() == {
        "name",
        "description",
        "input_schema",
    }
    assert SIGNATURE.to_json_schema("mcp", purpose="tool").keys() == {
        "name",
        "description",
        "inputSchema",
    }
    assert "responseSchema" in SIGNATURE.to_json_schema("gemini", purpose="structured")
    assert PROVIDER_NAME.fullmatch(tool_name)
    again = Signature.from_json_schema(SIGNATURE.to_json_schema("anthropic", purpose="tool"))
    assert list(again.input_fields) == list(SIGNATURE.input_fields)


OPEN = [
    "any", "dict", "dict[str, any]", "list", "dict?", "list[any]", "P{a: any}", "dict[str, dict]",
    "any[schema={'not': {}}]",
]  # fmt: skip


@pytest.mark.parametrize("text", OPEN)
def test_what_strict_form_cannot_say_is_said_in_the_form_that_is_not_strict_and_the_envelope_tells(
    text,
):
    signature = Signature(f"x: {text} -> y: {text}")
    tool = signature.to_json_schema("openai", purpose="tool")["function"]
    request = signature.to_json_schema("openai", purpose="structured")["json_schema"]
    assert (tool["strict"], request["strict"]) == (False, False)
    assert (
        request["schema"]
        == signature.to_json_schema("openai", strict=False)
        == signature.to_json_schema()
    )
    for purpose in ("inputs", "outputs", "tool", "structured"):
        with pytest.raises(SignatureError, match="strict=False gives the non-strict form"):
            signature.to_json_schema("openai", purpose=purpose, strict=True)
    with pytest.raises(SignatureError, match="strict=False"):
        signature.to_json_schema("openai")  # a bare schema cannot tell which form it has
    with pytest.raises(SignatureError, match="only 'openai' has a strict form"):
        signature.to_json_schema("gemini", strict=True)


def test_strict_form_is_taken_where_it_says_everything():
    tool = SIGNATURE.to_json_schema("openai", purpose="tool")["function"]
    assert tool["strict"] is True
    assert tool["parameters"] == SIGNATURE.to_json_schema("openai", purpose="inputs", strict=True)
    assert (
        SIGNATURE.to_json_schema("openai", purpose="tool", strict=False)["function"]["strict"]
        is False
    )


def test_null_in_strict_form_leaves_a_member_out_and_a_default_has_to_be_given():
    signature = Signature("-> who: P{name: str, age?: int, when: str = 'now'}")
    who = signature.to_json_schema("openai")["properties"]["who"]["properties"]
    assert who["age"]["type"] == ["integer", "null"]
    assert who["when"]["type"] == "string"
    values = signature.validate_outputs({"who": {"name": "n", "age": None, "when": "then"}})
    assert values["who"].to_dict() == {"name": "n", "when": "then"}
    with pytest.raises(InputError):
        signature.validate_outputs(
            {"who": {"name": "n", "age": None, "when": "then"}}, mode="strict"
        )


def now() -> str:
    """Tell the time."""
    raise NotImplementedError


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_function_without_parameters_has_a_schema(provider):
    signature = Signature.from_function(now)
    tool = signature.to_json_schema(provider, purpose="tool")
    inner = tool.get("function", tool)
    assert (inner["name"], inner["description"]) == ("now", "Tell the time.")
    for key in {"parameters", "input_schema", "inputSchema"} & inner.keys():
        assert (inner[key]["type"], inner[key]["properties"]) == ("object", {})
    assert ("parameters" in inner) == (provider in {"generic", "openai"})
    again = Signature.from_json_schema(tool)
    assert (again.name, list(again.input_fields), again.instructions) == (
        "now",
        [],
        "Tell the time.",
    )


def test_a_property_that_a_provider_refuses_is_renamed_and_read_back():
    signature = Signature.from_json_schema({
        "type": "object", "required": ["$schema", "part"], "properties": {
            "$schema": {"type": "string"},
            "part": {"type": "object", "properties": {"@id": {"type": "integer"}},
             "required": ["@id"]},
        },
    })  # fmt: skip
    schema = signature.to_json_schema("anthropic")
    assert schema["required"] == ["_x24_schema", "part"]
    assert schema["properties"]["part"]["required"] == ["_x40_id"]
    reply = {"_x24_schema": "s", "part": {"_x40_id": 3}}
    jsonschema.validate(reply, schema)
    values = signature.validate_outputs(reply)
    assert (values["schema"], values["part"].to_dict()) == ("s", {"@id": 3})
    assert signature.output_validator.dump(values) == {"schema": "s", "part": {"@id": 3}}
    assert values == signature.validate_outputs({"$schema": "s", "part": {"@id": 3}})


def test_patterns_are_written_in_the_dialect_of_schemas():
    signature = Signature.from_json_schema(
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "a\\Z"}}}
    )
    assert signature.to_json_schema()["properties"]["x"]["anyOf"][0]["pattern"] == "a$"
    for pattern, expected in (("\\Aa\\Z", "^a$"), ("\\\\Z", "\\\\Z"), ("(?P<n>a)", "(?<n>a)")):
        schema = (
            Signature("-> x")
            .with_field("x", str, constraints={"pattern": pattern})
            .to_json_schema()
        )
        assert schema["properties"]["x"]["pattern"] == expected


def test_a_request_takes_a_signature_of_any_name():
    for name in ("a title of many words " * 9, "漢字" * 40, "3 words " * 20):
        signature = Signature("-> x: int", name=name)
        for provider in PROVIDERS:
            signature.to_json_schema(provider, purpose="structured")
        assert PROVIDER_NAME.fullmatch(
            signature.to_json_schema("openai", purpose="structured")["json_schema"]["name"]
        )


def test_a_schema_belongs_to_the_caller():
    SIGNATURE.to_json_schema()["properties"].clear()
    assert SIGNATURE.to_json_schema()["properties"]


BROKEN: dict[str, list[Any]] = {
    "openai": [
        {"type": "array", "items": {}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": [],
         "additionalProperties": False},
        {"type": "object", "properties": {}, "required": []},
        {"type": "object", "properties": {"a": {}}, "required": ["a"],
         "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "array"}}, "required": ["a"],
         "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}},
         "required": ["a"],
         "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}},
         "required": ["a"],
         "additionalProperties": False},
        {"type": "object",
         "properties": {"a": {"type": "string", "enum": [str(n) for n in range(1001)]}},
         "required": ["a"], "additionalProperties": False},
    ],
    "anthropic": [{"type": "string"}, {"type": "object", "properties": {"a b": {}}}],
    "gemini": [
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
        {"type": "object", "properties": {"a": {"type": "integer", "enum": [1]}}},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "properties": {"a": {"type": "string", "format": "date"}}},
    ],
    "mcp": [{"type": "string"}],
}  # fmt: skip


def test_the_checker_finds_each_breach_and_each_rule_has_its_source():
    for provider, schemas in BROKEN.items():
        for schema in schemas:
            assert problems(provider, schema), (provider, schema)
    nested: dict[str, Any] = {"type": "string"}
    for _ in range(12):
        nested = {
            "type": "object",
            "properties": {"a": nested},
            "required": ["a"],
            "additionalProperties": False,
        }
    assert any("nested deeper" in problem for problem in problems("openai", nested))
    assert all(rule.source.startswith("https://") and rule.text for rule in RULES)


@examples()
@given(st.text(max_size=5) | st.text("a.-_x2E", max_size=12))
def test_a_name_comes_back_from_what_providers_take(name):
    escaped = provider_name(name)
    assert PROVIDER_NAME.fullmatch(escaped)
    assert original_name(escaped) == name
