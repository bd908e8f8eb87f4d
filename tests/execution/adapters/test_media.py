"""What is no text is refused before anything is sent.

Wherever it is and whatever lays out the prompt.
"""

import dataclasses

import pydantic
import pytest

import dspex
from dspex.errors import MediaError
from dspex.execution.adapters.media import first_media
from dspex.execution.context import RunContext
from dspex.language.records import ToolCall
from dspex.language.signatures.content import Audio, Document, File, History, Image, Turn
from dspex.testing import ScriptedModel

PICTURE = Image.from_bytes(b"\x89PNG" * 10_000)
RECORDING = Audio.from_bytes(b"RIFF")
FILE = File.from_bytes(b"%PDF", name="a.pdf")
JSON = {"url": PICTURE.url, "media_type": "image/png", "detail": None}


class Card(pydantic.BaseModel):
    """A model with a picture inside."""

    title: str
    pictures: list[Image]


@dataclasses.dataclass
class Sheet:
    """A dataclass with a picture inside."""

    front: Image


INPUTS = [
    ("x: Image", PICTURE, "x"),
    ("x: Image", "https://example.org/a.png", "x"),
    ("x: Audio", RECORDING, "x"),
    ("x: File", FILE, "x"),
    ("x: Image?", PICTURE, "x"),
    ("x: str | Image", PICTURE, "x"),
    ("x: list[Image]", [PICTURE], "x[0]"),
    ("x: dict[str, Image]", {"k": PICTURE}, "x.k"),
    ("x: P{title: str, picture: Image}", {"title": "t", "picture": PICTURE}, "x.picture"),
    (
        "x: P{rows: list[Q{file: File?}]}",
        {"rows": [{"file": None}, {"file": FILE}]},
        "x.rows[1].file",
    ),
    ("x: any", {"deep": [1, {"picture": PICTURE}]}, "x.deep[1].picture"),
    ("x: list", ["a", PICTURE], "x[1]"),
    (
        "x: History",
        History([Turn("user", "hi"), Turn("user", {"seen": PICTURE})]),
        "x.messages[1].content.seen",
    ),
    ("x: Document", Document("data:application/pdf;base64,JVBERg=="), "x"),
]
TEXTS = [
    ("x: Image?", None),
    ("x: str | Image", "a plain text"),
    ("x: Document", Document("a text", title="t")),
    ("x: any", {"url": "https://example.org"}),
    ("x: History", History([Turn("user", "hi")])),
    ("x: str", "data:image/png;base64,iVBORw0KGgo="),
]
ADAPTERS = ["chat", "json", "tools"]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("declared", "value", "place"), INPUTS)
def test_an_input_with_media_is_refused_before_anything_is_sent(declared, value, place, adapter):
    model = ScriptedModel("never asked", capabilities=["tools"])
    ask = dspex.Predict(f"{declared} -> y: str", adapter=adapter)
    with pytest.raises(MediaError, match="backend 'dspy'") as caught:
        ask(RunContext(model=model), x=value)
    assert caught.value.context["path"].startswith(place)
    assert (caught.value.code, len(caught.value.message) < 400) == ("media", True)
    assert model.requests == []


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("declared", "value"), TEXTS)
def test_text_is_sent(declared, value, adapter):
    replies = {"chat": "[[ ## y ## ]]\nyes"}
    model = ScriptedModel(replies.get(adapter, '{"y": "yes"}'))
    assert (
        dspex.Predict(f"{declared} -> y: str", adapter=adapter)(RunContext(model=model), x=value).y
        == "yes"
    )


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("picture", [PICTURE, JSON])
def test_a_demonstration_with_media_is_refused_as_instance_and_as_json(picture, adapter):
    model = ScriptedModel("never asked")
    demos = {
        "q: str, x: Image? -> y: str": {"q": "q", "x": picture, "y": "y"},
        "q: str -> y: list[Image]": {"q": "q", "y": [picture]},
        "q: str, x: P{i: Image}? -> y: str": {"q": "q", "x": {"i": picture}, "y": "y"},
    }
    for signature, demo in demos.items():
        with pytest.raises(MediaError):
            dspex.Predict(signature, demos=[demo], adapter=adapter)(RunContext(model=model), q="?")
    assert model.requests == []


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_media_in_classes_of_the_user_are_found(adapter):
    class Ask(dspex.Signature):
        """Look at both."""

        card: Card
        sheet: Sheet
        y: str = dspex.Output()

    model = ScriptedModel("never asked")
    with pytest.raises(MediaError, match=r"card\.pictures\[0\]"):
        dspex.Predict(Ask, adapter=adapter)(
            RunContext(model=model), card=Card(title="t", pictures=[PICTURE]), sheet=Sheet(PICTURE)
        )
    with pytest.raises(MediaError, match=r"sheet\.front"):
        dspex.Predict(Ask, adapter=adapter)(
            RunContext(model=model), card=Card(title="t", pictures=[]), sheet=Sheet(PICTURE)
        )
    assert model.requests == []


@pytest.mark.parametrize("capabilities", [[], ["tools"]])
def test_an_agent_refuses_media_too(capabilities):
    model = ScriptedModel("never asked", capabilities=capabilities)
    with pytest.raises(MediaError):
        dspex.ReAct("x: Image -> y: str", [])(RunContext(model=model), x=PICTURE)
    assert model.requests == []


def test_a_picture_that_a_tool_returns_is_an_error_that_the_model_reads():
    def look(at: str) -> Image:
        """Look at something."""
        return PICTURE

    calls = [ToolCall("1", "look", {"at": "it"}), ToolCall("2", "finish", {"y": "no"})]
    model = ScriptedModel(*calls, capabilities=["tools"])
    assert dspex.ReAct("q -> y: str", [look])(RunContext(model=model), q="?").y == "no"
    (observation,) = [
        message.content for message in model.requests[1].messages if message.role == "tool"
    ]
    assert observation.startswith("error: the result holds media (Image)")


def test_a_recursive_value_terminates():
    loop: list = []
    loop.append(loop)
    assert first_media(loop, "x") is None
    assert first_media([*range(10), PICTURE], "x") == ("x[10]", "Image")
