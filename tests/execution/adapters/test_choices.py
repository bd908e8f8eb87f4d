"""Choices: whatever their values are, each is shown so that it is read back as itself."""

import enum
import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.errors import AdapterError
from dspex.execution.adapters import Adapter, ChatAdapter, JSONAdapter
from dspex.execution.adapters.choices import Choices
from dspex.execution.context import RunContext
from dspex.language.signatures import Signature, Type
from dspex.testing import ScriptedModel
from tests.support.properties import examples

_CHAT, _JSON = ChatAdapter(), JSONAdapter()
_VALUES = st.lists(
    st.text(max_size=6)
    | st.text(alphabet="\"'`; a1\n", max_size=4)
    | st.integers(-3, 3)
    | st.booleans(),
    min_size=1,
    max_size=5,
    unique_by=lambda value: (type(value), value),
)


class Color(enum.Enum):
    RED = "r"
    BLUE = "RED"  # the value of one is the name of the other
    GREEN = "g"


def _answer(hint: Any, reply: str, adapter: Adapter = _CHAT) -> Any:
    signature = Signature("q -> old").append("y", hint).remove("old")
    text = (
        f"[[ ## y ## ]]\n{reply}\n\n[[ ## completed ## ]]"
        if adapter is _CHAT
        else f'{{"y": {reply}}}'
    )
    return adapter.parse(signature, text)["y"]


@examples()
@given(_VALUES)
def test_a_formatted_value_is_read_back(values: list[Any]) -> None:
    type_ = Type("atom", constraints=(("one_of", tuple(values)),))
    choices = Choices(type_)
    for value in values:
        for read_value in (
            choices.read(f"\n{choices.format(value)}\n\n"),
            _answer(type_, choices.format(value)),
        ):
            assert (type(read_value), read_value) == (type(value), value)
        read_value = _answer(type_, json.dumps(value), _JSON)
        assert (type(read_value), read_value) == (type(value), value)


@examples()
@given(_VALUES)
def test_plain_text_is_read_back_unless_it_is_the_json_of_another_value(values: list[Any]) -> None:
    texts = [
        value for value in values if isinstance(value, str) and value == value.strip() and value
    ]
    for text in texts:
        if _decoded(text) not in texts:
            assert _answer(Type("atom", constraints=(("one_of", tuple(texts)),)), text) == text


def _decoded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("hint", "reply", "value"),
    [
        (Literal['six"', "a"], 'six"', 'six"'),
        (Literal['six"', "a"], '"a"', "a"),
        (Literal['six"', "a"], "`a`", "a"),
        (Literal['six"', "a"], "'a'", "a"),
        (Literal['six"', "a"], "Literal['a']", "a"),
        (Literal['six"', "a"], "Literal[a]", "a"),
        (Literal["`x`", "y"], "`x`", "`x`"),
        (Literal[" b ", "c"], " b ", " b "),
        (Literal[" b ", "c"], '" b "', " b "),
        (Literal[1, "1"], "1", 1),
        (Literal[1, "1"], '"1"', "1"),
        (Literal[1, 2], '"2"', 2),
        (Literal[True, False], "True", True),
        (Literal[True, False], "false", False),
        (Literal["a", "b", None], "b", "b"),
        (Literal["a", "b", None], "null", None),
        (Literal["none", None], "none", "none"),
        (Color, "r", Color.RED),
        (Color, "RED", Color.BLUE),
        (Color, "GREEN", Color.GREEN),
        (Color, "g", Color.GREEN),
    ],
)
def test_a_choice_is_read_as_its_value(hint: Any, reply: str, value: Any) -> None:
    result = _answer(hint, reply)
    assert (type(result), result) == (type(value), value)


@pytest.mark.parametrize(
    ("hint", "reply", "value"),
    [
        (Literal[1, "1"], "1", 1),
        (Literal[1, "1"], '"1"', "1"),
        (Literal["1", "2"], "2", "2"),
        (Literal[1, 2], '"2"', 2),
        (Literal['six"', "a"], '"six\\""', 'six"'),
        (Literal['six"', "a"], "\"'a'\"", "a"),
        (Color, '"GREEN"', Color.GREEN),
        (str, "5", "5"),
        (str, "1.5", "1.5"),
        (str, "true", "true"),
        (str, '{"a": [1]}', '{"a": [1]}'),
        (str, "[1, 2]", "[1, 2]"),
        ("P{n: int}", '[{"n": 1}]', {"n": 1}),
        ("P{n: int}?", '[{"n": 1}]', {"n": 1}),
        ("dict[str, int]", '[{"n": 1}]', {"n": 1}),
        ("list[P{n: int}]", '[{"n": 1}]', [{"n": 1}]),
    ],
)
def test_a_value_of_a_json_reply_is_fitted_to_its_field(hint: Any, reply: str, value: Any) -> None:
    signature = Signature("q -> old").append("y", hint).remove("old")
    result = _answer(hint, reply, _JSON)
    assert signature.output_validator.dump({"y": result}) == signature.output_validator.dump(
        {"y": value}
    )
    if isinstance(hint, str):  # objects, in the chat layout
        assert signature.output_validator.dump({"y": _answer(hint, reply)}) == {"y": value}


def test_a_whole_reply_that_is_one_object_in_a_list_is_read() -> None:
    assert _JSON.parse(Signature("q -> n: int"), '[{"n": 1}]') == {"n": 1}


@pytest.mark.parametrize("reply", ["c", "", "3", "null"])
def test_a_value_that_is_not_a_choice_is_refused(reply: str) -> None:
    with pytest.raises(AdapterError, match="must be"):
        _answer(Literal[1, "a"], reply)


def test_none_for_a_text_field_is_refused() -> None:
    with pytest.raises(AdapterError):
        _answer(str, "null", _JSON)


@pytest.mark.parametrize("adapter", ["chat", "json"])
async def test_choices_cost_one_call(adapter: str) -> None:
    module = dspex.Predict(
        Signature("q -> old").append("y", Literal['six"', "a"]).remove("old"), adapter=adapter
    )
    replies = {"chat": '[[ ## y ## ]]\nsix"', "json": '[{"y": "six\\""}]'}
    model = ScriptedModel(replies[adapter])
    prediction = await module.acall(RunContext(model=model), q="?")
    assert (prediction["y"], len(model.requests)) == ('six"', 1)


def test_the_values_are_shown_in_the_prompt_and_in_demonstrations() -> None:
    signature = Signature("q -> old").append("y", Literal[1, "1", " b "]).remove("old")
    prompt = _CHAT.render(signature, [{"q": "a", "y": "1"}, {"q": "b", "y": 1}], {"q": "?"})
    assert '(one of: 1; "1"; " b ")' in prompt.messages[0].content
    answers = [message.text for message in prompt.messages if message.role == "assistant"]
    assert [text.split("\n")[1] for text in answers] == ['"1"', "1"]
