"""Replies that dspy reads, read here: the same values.

And never a second call that dspy does not need.
"""

import enum
import importlib.util
import json
import warnings
from collections.abc import Callable
from typing import Any, Literal

import pydantic
import pytest

from dspex.errors import AdapterError
from dspex.execution.adapters import ChatAdapter, JSONAdapter
from dspex.language.signatures import Signature

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'"
    ),
]


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(pydantic.BaseModel):
    n: int
    tags: list[str] = []


TYPES: dict[str, Any] = {
    "str": str, "int": int, "float": float, "bool": bool, "list": list[int], "texts": list[str],
    "dict": dict[str, int], "optional": int | None, "optional_text": str | None,
    "union": int | bool,
    "literal": Literal["a", "b c"], "quoted": Literal['six"', "a", "`x`"], "numbers": Literal[1, 2],
    "enum": Color, "int_enum": Level, "model": Point, "models": list[Point],
    "literals": list[Literal["a", "b"]],
    "model_or_none": Point | None, "any": Any,
}  # fmt: skip
REPLIES = [
    "5", "-1", "1.5", "1e3", "true", "True", "false", "null", "None", "", "a", " a ", '"a"', "'a'",
    "`a`", "b c", "`x`",
    'six"', "Literal['a']", "str[a]", "Literal[a]", "1", '"1"', "r", "RED", "GREEN", "LOW", "2",
    "[1, 2]", "['a', 'b']",
    '["a"]', '{"n": 1}', "{'n': 1}", '{"n": 1, "tags": ["x"]}', '[{"n": 1}]', '{"n": "1"}',
    "```json\n[1, 2]\n```",
    "```json\n{\"n\": 1}\n```", '{"n": 1', "[1, 2", "{}", "[]", "hello", "5 apples", "yes", "no",
    '{"a": 1}', "\"5\"",
]  # fmt: skip
PARSED: tuple[Any, ...] = (
    5, -1, 1.5, True, False, "a", "b c", 'six"', "`x`", "'a'", "Literal['a']", "1", 1, 2, "r",
    "RED", "LOW", "true",
    [1, 2], ["a"], {"n": 1}, {"n": 1, "tags": ["x"]}, [{"n": 1}], {"a": 1}, {}, [], "[1, 2]",
    '{"n": 1}', "None",
)  # fmt: skip
# where dspy reads something else on purpose of nobody: (type, reply), the reason why not here
# broken JSON is mended to a list of what is in its brackets
_COPIED = ["Literal['a']", "str[a]", "Literal[a]"]
_DIFFERENT = {
    *((name, reply) for name in ("texts", "literals", "any") for reply in _COPIED),
    # no text, where none may be given
    *(("optional_text", reply) for reply in ("null", "None", "")),
    # True is not 1
    *((name, reply) for name in ("numbers", "int_enum") for reply in ("true", "True", True)),
    *(("any", reply) for reply in ('{"n": 1', "[1, 2")),  # a text may begin with a bracket
    ("str", True), ("str", False),  # JSON, not Python
}  # fmt: skip


def _is_different(name: str, reply: Any) -> bool:
    if name == "str" and isinstance(reply, dict | list):
        return True  # JSON, not Python
    return not isinstance(reply, dict | list) and any(
        (name, reply) == difference and type(reply) is type(difference[1])
        for difference in _DIFFERENT
    )


def _theirs(kind: str, name: str) -> Callable[[str], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dspy

        signature = dspy.Signature(
            {"q": (str, dspy.InputField()), "y": (TYPES[name], dspy.OutputField())}, "Do."
        )
        adapter = dspy.ChatAdapter() if kind == "chat" else dspy.JSONAdapter()
        return lambda reply: adapter.parse(signature, reply)["y"]


def _ours(kind: str, name: str) -> Callable[[str], Any]:
    signature = Signature("q -> old").append("y", TYPES[name]).remove("old")
    adapter = ChatAdapter() if kind == "chat" else JSONAdapter()
    return lambda reply: adapter.parse(signature, reply)["y"]


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, pydantic.BaseModel) else value


def _compare(kind: str, name: str, replies: list[str]) -> list[str]:
    theirs, ours, differences = _theirs(kind, name), _ours(kind, name), []
    for reply in replies:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = theirs(reply)
        except Exception:  # noqa: BLE001, S112  # what dspy refuses may be read here
            continue
        try:
            result = ours(reply)
        except AdapterError as error:
            differences.append(
                f"{name} {reply!r}: dspy {expected!r}, refused here ({error.message[:150]})"
            )
            continue
        if (type(result), _plain(result)) != (type(expected), _plain(expected)):
            differences.append(f"{name} {reply!r}: dspy {expected!r}, here {result!r}")
    return differences


@pytest.mark.parametrize("name", TYPES)
def test_a_chat_reply_is_read_as_dspy_reads_it(name: str) -> None:
    compared = [reply for reply in REPLIES if not _is_different(name, reply)]
    replies = [f"[[ ## y ## ]]\n{reply}\n\n[[ ## completed ## ]]" for reply in compared]
    assert _compare("chat", name, replies) == []


@pytest.mark.parametrize("name", TYPES)
def test_a_json_reply_is_read_as_dspy_reads_it(name: str) -> None:
    replies = [json.dumps({"y": value}) for value in PARSED if not _is_different(name, value)]
    replies += [
        f"Here it is: {replies[0]} Done.",
        f"[{replies[1]}]",
        f"```json\n{replies[2]}\n```",
        '{"y": 5',
    ]
    assert _compare("json", name, replies) == []
