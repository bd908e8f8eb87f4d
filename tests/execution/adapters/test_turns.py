"""What both adapters promise, on both of them."""

import json
from typing import Literal

import pytest
from pydantic import BaseModel

from dspex import Output, Signature
from dspex.errors import AdapterError
from dspex.execution.adapters import Adapter, ChatAdapter, JSONAdapter, ToolAdapter, XMLAdapter
from dspex.testing.contracts import AdapterContract


class TestChat(AdapterContract):
    def make(self) -> Adapter:
        return ChatAdapter()


class TestJSON(AdapterContract):
    def make(self) -> Adapter:
        return JSONAdapter()


class TestTools(AdapterContract):
    def make(self) -> Adapter:
        return ToolAdapter()


class TestXML(AdapterContract):
    def make(self) -> Adapter:
        return XMLAdapter()


class Address(BaseModel):
    city: str
    zip: str | None = None


class Person(BaseModel):
    name: str
    age: int
    address: Address


class Extract(Signature):
    """Read the card."""

    card: str
    person: Person = Output()
    tags: list[str] = Output()
    mood: Literal["glad", "sad"] = Output()
    note: str | None = Output()


VALUES = {
    "person": {"name": "Ada", "age": 36, "address": {"city": "London"}},
    "tags": ["x", "y"],
    "mood": "glad",
    "note": "ok",
}


def as_chat(values: dict[str, object]) -> str:
    parts = (
        f"[[ ## {k} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items()
    )
    return "\n\n".join(parts) + "\n\n[[ ## completed ## ]]"


WRITERS = [(ChatAdapter(), as_chat), (JSONAdapter(), json.dumps)]


@pytest.mark.parametrize(("adapter", "write"), WRITERS, ids=["chat", "json"])
def test_nested_models_lists_and_choices_are_parsed_to_their_types(adapter, write):
    outputs = adapter.parse(Signature.of(Extract), write(VALUES))
    assert outputs["person"] == Person(name="Ada", age=36, address=Address(city="London"))
    assert (outputs["tags"], outputs["mood"], outputs["note"]) == (["x", "y"], "glad", "ok")


@pytest.mark.parametrize(("adapter", "write"), WRITERS, ids=["chat", "json"])
def test_a_missing_optional_output_is_none(adapter, write):
    assert (
        adapter.parse(
            Signature.of(Extract), write({k: v for k, v in VALUES.items() if k != "note"})
        )["note"]
        is None
    )


@pytest.mark.parametrize(("adapter", "write"), WRITERS, ids=["chat", "json"])
def test_all_errors_of_a_reply_are_reported_at_once(adapter, write):
    reply = write({"person": {"name": "Ada", "address": {}}, "tags": ["x"], "mood": "angry"})
    with pytest.raises(AdapterError) as caught:
        adapter.parse(Signature.of(Extract), reply)
    error = caught.value
    assert {e.path for e in error.fields} == {"person.age", "person.address.city", "mood"}
    assert error.context["reply"] == reply
    assert error.context["signature"] == "Extract"
    assert error.context["parsed"]["tags"] == ["x"]


@pytest.mark.parametrize(("adapter", "write"), WRITERS, ids=["chat", "json"])
def test_replies_use_wire_names(adapter, write):
    class Aliased(Signature):
        text: str
        class_: str = Output(alias="class")

    assert adapter.parse(Signature.of(Aliased), write({"class": "b"})) == {"class_": "b"}
    prompt = adapter.render(Signature.of(Aliased), [{"text": "t", "class_": "a"}], {"text": "u"})
    content = "\n".join(message.content for message in prompt.messages)
    assert "class" in content
    assert "class_" not in content


@pytest.mark.parametrize(("adapter", "write"), WRITERS, ids=["chat", "json"])
@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("n: int", "42", 42),
        ("n: float", "1", 1.0),
        ("n: bool", "true", True),
        ("n: bool", "False", False),
        ("n: int?", "null", None),
        ("n: int | str", "seven", "seven"),
        ("n: any", "plain", "plain"),
    ],
)
def test_text_is_parsed_by_the_type(adapter, write, declared, value, expected):
    outputs = adapter.parse(Signature(f"q -> {declared}, w"), write({"n": value, "w": "w"}))
    assert outputs["n"] == expected
    assert type(outputs["n"]) is type(expected)


def test_the_first_occurrence_of_a_field_wins():
    reply = "[[ ## a ## ]]\none\n\n[[ ## a ## ]]\ntwo"
    assert ChatAdapter().parse(Signature("q -> a"), reply) == {"a": "one"}


def test_text_before_the_first_header_and_unknown_headers_are_ignored():
    reply = "Sure! Here:\n[[ ## thought ## ]]\nhm\n[[ ## a ## ]] one\n[[ ## mood ## ]]\nglad"
    assert ChatAdapter().parse(Signature("q -> a"), reply) == {"a": "one"}


def test_a_reply_without_headers_is_an_error_that_names_them():
    with pytest.raises(AdapterError, match=r"none of the headers \[\[ ## a ## ]]"):
        ChatAdapter().parse(Signature("q -> a"), "forty-two")


@pytest.mark.parametrize(
    "reply",
    [
        '{"a": "one", "b": 2}',
        'Here you are: {"a": "one", "b": 2} - glad to help {"a": "two", "b": 3}',
        '```json\n{"a": "one", "b": 2}\n```',
        "{'a': 'one', 'b': 2}",
        '{"a": "one", "b": 2',
        '{"a": "one", "b": "2", "unknown": [1]}',
    ],
)
def test_json_is_extracted_and_repaired(reply):
    assert JSONAdapter().parse(Signature("q -> a, b: int"), reply) == {"a": "one", "b": 2}


@pytest.mark.parametrize("reply", ["", "no", "[1, 2]", '"text"', "{" * 5000, '{"a": }'])
def test_a_reply_without_an_object_is_an_adapter_error(reply):
    with pytest.raises(AdapterError):
        JSONAdapter().parse(Signature("q -> a, b: int"), reply)


def test_a_list_as_text_inside_json_is_parsed():
    assert JSONAdapter().parse(Signature("q -> a: list[int]"), '{"a": "[1, 2]"}') == {"a": [1, 2]}


def test_the_chat_prompt_is_unchanged():
    prompt = ChatAdapter().render(
        Signature("question, hint: str? -> answer, n: int", "Answer."),
        [
            {"question": "1+1?", "answer": "two", "n": 2},
            {"question": "0?", "hint": "none", "answer": "zero", "n": 0},
        ],
        {"question": "2+2?", "hint": None},
    )
    assert [(m.role, m.content) for m in prompt.messages] == [
        (
            "system",
            "You are given these fields:\n1. `question` (str)\n2. `hint` (str?)\n\n"
            "You answer with these fields:\n1. `answer` (str)\n2. `n` (int)\n\n"
            "Every exchange has this layout, with each value in the place of its braces:\n\n"
            "[[ ## question ## ]]\n{question}\n\n[[ ## hint ## ]]\n{hint}\n\n"
            "[[ ## answer ## ]]\n{answer}\n\n[[ ## n ## ]]\n{n}\n\n[[ ## completed ## ]]\n\n"
            "Your task: Answer.",
        ),
        (
            "user",
            "(an example with parts missing)\n\n[[ ## question ## ]]\n1+1?\n\n[[ ## hint ## "
            "]]\nnull",
        ),
        ("assistant", "[[ ## answer ## ]]\ntwo\n\n[[ ## n ## ]]\n2\n\n[[ ## completed ## ]]"),
        ("user", "[[ ## question ## ]]\n0?\n\n[[ ## hint ## ]]\nnone"),
        ("assistant", "[[ ## answer ## ]]\nzero\n\n[[ ## n ## ]]\n0\n\n[[ ## completed ## ]]"),
        (
            "user",
            "[[ ## question ## ]]\n2+2?\n\n[[ ## hint ## ]]\nnull\n\n"
            "Answer with `[[ ## answer ## ]]`, then `[[ ## n ## ]]`, and end with `[[ ## "
            "completed ## ]]`.",
        ),
    ]


def test_the_json_prompt_is_unchanged_and_ends_with_the_input():
    prompt = JSONAdapter().render(
        Signature("question -> answer, n: int", "Answer."),
        [{"question": "1+1?", "answer": "two", "n": 2}],
        {"question": "2+2?"},
    )
    assert [(m.role, m.content) for m in prompt.messages] == [
        (
            "system",
            "You are given these fields:\n1. `question` (str)\n\n"
            "You answer with a JSON object of these fields:\n1. `answer` (str)\n2. `n` (int)\n\n"
            "Your task: Answer.\n\n"
            "Respond with a JSON object and nothing else; its keys, in this order: `answer`, `n`.",
        ),
        ("user", "[[ ## question ## ]]\n1+1?"),
        ("assistant", '{"answer": "two", "n": 2}'),
        ("user", "[[ ## question ## ]]\n2+2?"),
    ]
    assert prompt.response_schema is not None
    assert prompt.response_schema["required"] == ["answer", "n"]
