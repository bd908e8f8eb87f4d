"""Every type that a field can be declared with, each with a value.

The table behind the tests of all types.
"""

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pydantic

import dspex
from dspex.language.records import Passage
from dspex.language.signatures import Signature, content


class Color(enum.Enum):
    """Texts as values."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Numbers as values."""

    LOW = 1
    HIGH = 2


class Point(pydantic.BaseModel):
    """A plain model."""

    c: str


class Place(pydantic.BaseModel):
    """A model with models, defaults and dates inside."""

    name: str
    at: Point
    seen: datetime.date
    notes: list[str] = []
    color: Color = Color.RED


class Aliased(pydantic.BaseModel):
    """A member that goes by another name in JSON."""

    model_config = pydantic.ConfigDict(populate_by_name=True)
    number: int = pydantic.Field(alias="n")


class Blob(pydantic.BaseModel):
    """Bytes inside a model."""

    name: str
    data: bytes


class Numbers(pydantic.RootModel[list[int]]):
    """A model that is a list."""


@dataclasses.dataclass
class Line:
    """A dataclass with models inside."""

    start: Point
    ends: list[Point]
    width: float = 1.0


class Row(TypedDict):
    """A TypedDict with a model inside."""

    x: int
    point: Point
    note: NotRequired[str]


class Cat(pydantic.BaseModel):
    """One of two tagged objects."""

    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    """The other one."""

    kind: Literal["dog"]
    name: str


class Tree(pydantic.BaseModel):
    """A model inside itself."""

    value: int
    children: "list[Tree]" = []


Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredType:
    """One way to declare a type.

    The annotation (or the text of the grammar), and a value in its JSON form.
    """

    name: str
    hint: Any
    value: Any


def _row(name: str, hint: Any, value: Any) -> DeclaredType:
    return DeclaredType(name=name, hint=hint, value=value)


_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
_IMAGE = "data:image/png;base64,iVBORw0KGgo="
_POINT = {"c": "o"}
_BASIC = (
    _row("str", str, "hello"),
    _row("str_rules", "str[min_length=2, max_length=9, pattern='^[a-z]+$']", "abc"),
    _row("str_format", "str[format='email']", "a@b.co"),
    _row("int", int, 42),
    _row("int_rules", "int[ge=0, le=100, multiple_of=5]", 15),
    _row("float", float, 1.5),
    _row("float_rules", "float[gt=0, lt=1, precision=2]", 0.25),
    _row("bool", bool, True),
    _row("literal", Literal["yes", "no"], "yes"),
    _row("literal_mixed", Literal[1, "1", True], 1),
    _row("literal_quoted", Literal['six"', "a`", " b "], 'six"'),
    _row("literal_optional", Literal["a", "b", None], None),
    _row("atom", "atom[one_of=['north', 'south']]", "south"),
    _row("enum", Color, "blue"),
    _row("enum_int", Level, 2),
    _row("any", Any, {"free": [1, None, "x"]}),
    _row(
        "any_schema",
        'any[schema={"type": "object", "minProperties": 1, "not": {"required": ["b"]}}]',
        {"a": [1]},
    ),
    _row("bytes", bytes, "/+8="),
    _row("datetime", datetime.datetime, "2026-01-02T03:04:05Z"),
    _row("date", datetime.date, "2026-01-02"),
    _row("time", datetime.time, "03:04:05"),
    _row("timedelta", datetime.timedelta, "P1D"),
    _row("uuid", uuid.UUID, _ID),
    _row("decimal", decimal.Decimal, "1.25"),
)
_MACHINE = (
    _row("embedding", "embedding[dimensions=3]", [0.5, -0.25, 1.0]),
    _row("probability", "probability", 0.5),
    _row("confidence_score", "confidence_score", 0.75),
    _row("similarity_score", "similarity_score", -0.5),
    _row("reasoning_chain", "reasoning_chain[max_steps=3]", ["first", "second"]),
    _row("token_count", "token_count", 12),
    _row("token_usage", "token_usage", {"input_tokens": 3, "output_tokens": 4}),
    _row("model_output", "model_output", {"text": "x"}),
    _row("prompt_template", "prompt_template", "Say {word}"),
    _row("function_call", "function_call", {"name": "f", "arguments": {"a": 1}, "id": "c1"}),
    _row(
        "tool_result", "tool_result", {"content": "ok", "name": "f", "id": "c1", "is_error": False}
    ),
)
_COMPOSITE = (
    _row("list", list[int], [1, 2]),
    _row("list_free", list, [1, "a", None]),
    _row("list_rules", "list[str][min_items=1, max_items=3, unique=true]", ["a", "b"]),
    _row("set", set[int], [1, 2]),
    _row("frozenset", frozenset[str], ["a"]),
    _row("tuple", tuple[int, str], [1, "a"]),
    _row("tuple_open", tuple[int, ...], [1, 2]),
    _row("dict", dict[str, int], {"a": 1}),
    _row("dict_free", dict, {"a": [1]}),
    _row("dict_int", dict[int, str], {"7": "seven"}),
    _row("dict_choice", dict[Literal["a", "b"], float], {"a": 0.5}),
    _row("dict_rules", "dict[str, int][min_size=1, required_keys=['k']]", {"k": 1}),
    _row("optional", int | None, None),
    _row("optional_text", str | None, "x"),
    _row("union", int | str, "seven"),
    _row("union_objects", Point | list[int], _POINT),
    _row("tagged", Pet, {"kind": "dog", "name": "Rex"}),
    _row("tagged_list", list[Pet], [{"kind": "cat", "lives": 9}, {"kind": "dog", "name": "Rex"}]),
    _row(
        "object",
        "P{c: str, n?: int, deep: {x: float} = {'x': 1.5}}",
        {"c": "o", "deep": {"x": 2.5}},
    ),
    _row(
        "object_names",
        "P{_x: int, copy: str, 'a b': bool, model_x?: int}",
        {"_x": 1, "copy": "c", "a b": True},
    ),
    _row("model", Point, _POINT),
    _row("model_list", list[Point], [_POINT, {"c": "p"}]),
    _row("model_dict", dict[str, Point], {"k": _POINT}),
    _row("model_optional", Point | None, _POINT),
    _row(
        "model_nested",
        Place,
        {"name": "n", "at": _POINT, "seen": "2026-01-02", "notes": ["a"], "color": "blue"},
    ),
    _row("model_alias", Aliased, {"n": 5}),
    _row("model_bytes", Blob, {"name": "b", "data": "/+8="}),
    _row("model_root", Numbers, [1, 2]),
    _row("model_recursive", Tree, {"value": 1, "children": [{"value": 2, "children": []}]}),
    _row("dataclass", Line, {"start": _POINT, "ends": [_POINT], "width": 2.5}),
    _row("typed_dict", Row, {"x": 1, "point": _POINT, "note": "n"}),
)
_MEDIA = (
    _row("image", content.Image, {"url": _IMAGE, "media_type": "image/png", "detail": None}),
    _row(
        "audio", content.Audio, {"url": "data:audio/wav;base64,UklGRg==", "media_type": "audio/wav"}
    ),
    _row(
        "file",
        content.File,
        {"url": "https://a.b/c.pdf", "name": "c.pdf", "media_type": "application/pdf"},
    ),
    _row("document", content.Document, {"text": "t", "title": "T", "source": None}),
    _row("code", content.Code, {"text": "print(1)", "language": "python"}),
    _row("history", content.History, {"messages": [{"role": "user", "content": "hi"}]}),
    _row(
        "tool_calls",
        content.ToolCalls,
        {"calls": [{"name": "f", "arguments": {"a": 1}, "id": None}]},
    ),
    _row(
        "citations",
        content.Citations,
        {"items": [{"text": "t", "source": "s", "start": 0, "end": 1}]},
    ),
    _row(
        "passage",
        Passage,
        {
            "text": "t",
            "id": "d#1",
            "score": 0.5,
            "metadata": {"heading": "h"},
            "document": "d",
            "version": 1,
            "start": 0,
            "end": 1,
        },
    ),
)
DECLARED_TYPES: tuple[DeclaredType, ...] = (*_BASIC, *_MACHINE, *_COMPOSITE, *_MEDIA)
REFERENCES = frozenset({"image", "audio", "file"})  # prompts of text cannot hold these

_BY_NAME = {row.name: row for row in DECLARED_TYPES}


def signature_of(name: str, *, is_shown: bool = True) -> Signature:
    """Return a signature with a type as input and as output.

    `reply` is what the model is to answer. Without `is_shown` the type is an output alone.
    """
    hint = _BY_NAME[name].hint
    signature = Signature("reply: str -> old", "Repeat.").append("y", hint).remove("old")
    return signature.prepend("x", hint, role="input") if is_shown else signature


class Echo(dspex.Module):
    """Takes a value, asks a model to repeat it, and answers what it understood."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.signature = signature_of(name)
        self.repeat = dspex.Predict(signature_of(name, is_shown=name not in REFERENCES))

    async def forward(self, **inputs: Any) -> dict[str, Any]:
        """Pass what the signature made of the value on to the predictor."""
        x = inputs.pop("x")
        request = {} if self.name in REFERENCES else {"x": x}
        prediction = await self.repeat.acall(**request, **inputs)
        return {"y": prediction["y"]}
