"""Media become parts of messages, wherever they are and whatever lays out the prompt.

A model that does not take them refuses before anything is sent.
"""

import dataclasses
import hashlib

import pydantic
import pytest

import dspex
from dspex.errors import InputError, MediaError
from dspex.execution.adapters.media import instances_in
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.clients.modalities import MODALITIES
from dspex.execution.context import RunContext
from dspex.language.records import Message, ToolCall
from dspex.language.records.media_types import MAX_MEDIA_BYTES
from dspex.language.records.message import AudioPart, Content, ImagePart, MediaPart, TextPart
from dspex.language.signatures.content import data_uri
from dspex.media import Audio, Document, File, History, Image, Turn
from dspex.testing import ScriptedModel
from tests.support.pictures import png

PICTURE_BYTES = b"\x89PNG" * 10_000
PICTURE = Image.from_bytes(PICTURE_BYTES)
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
ADAPTERS = ["chat", "json", "tools", "xml"]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("declared", "value", "place"), INPUTS)
def test_an_input_with_media_is_refused_before_anything_is_sent(declared, value, place, adapter):
    model = ScriptedModel("never asked", capabilities=["tools"])
    ask = dspex.Predict(f"{declared} -> y: str", adapter=adapter)
    with pytest.raises(MediaError, match=r"does not take|holds a") as caught:
        ask(RunContext(model=model), x=value)
    assert caught.value.context["path"].startswith(place)
    assert (caught.value.code, len(caught.value.message) < 400) == ("media", True)
    assert caught.value.message.startswith(place)
    assert model.requests == []


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("declared", "value"), TEXTS)
def test_text_is_sent(declared, value, adapter):
    replies = {"chat": "[[ ## y ## ]]\nyes", "xml": "<y>yes</y>"}
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
        message.text for message in model.requests[1].messages if message.role == "tool"
    ]
    assert observation.startswith("error: the result holds media (Image)")


def test_a_recursive_value_terminates():
    loop: list = []
    loop.append(loop)
    assert [*instances_in(loop, "x")] == []
    assert [*instances_in([*range(10), PICTURE], "x")] == [("x[10]", "Image", PICTURE)]


def content_of(signature: str, adapter: str = "chat", **inputs: object) -> Content:
    model = ScriptedModel('{"y": "yes"}', capabilities=MODALITIES)
    dspex.Predict(signature, adapter=adapter)(RunContext(model=model), **inputs)
    return model.requests[0].messages[-1].content


@pytest.mark.parametrize("adapter", ["json", "tools"])
@pytest.mark.parametrize(("declared", "value", "place"), INPUTS)
def test_a_model_that_takes_media_gets_them_as_parts(declared, value, place, adapter):
    model = ScriptedModel('{"y": "yes"}', capabilities=MODALITIES)
    dspex.Predict(f"{declared} -> y: str", adapter=adapter)(RunContext(model=model), x=value)
    messages = model.requests[0].messages
    parts = [part for message in messages for part in message.content]
    (part,) = [part for part in parts if isinstance(part, MediaPart)]
    kind = AudioPart if value is RECORDING else ImagePart if "Image" in declared else MediaPart
    assert isinstance(part, kind)
    assert part.data in {PICTURE_BYTES, b"RIFF", b"%PDF"} or part.url == "https://example.org/a.png"
    assert "base64" not in "".join(message.text for message in messages)


def test_each_part_is_in_its_place_between_the_texts():
    other = Image(png(3, 3))
    content = content_of(
        "q, first: Image, card: Card{title: str, pictures: list[Image]} -> y",
        "json",
        q='What is "this"?',
        first=PICTURE,
        card={"title": "t", "pictures": [other, "https://example.org/b.jpg"]},
    )
    assert content == (
        TextPart('[[ ## q ## ]]\nWhat is "this"?\n\n[[ ## first ## ]]\n'),
        ImagePart(media_type="image/png", data=PICTURE_BYTES),
        TextPart('\n\n[[ ## card ## ]]\n{"title": "t", "pictures": ['),
        ImagePart(media_type="image/png", data=png(3, 3)),
        TextPart(", "),
        ImagePart(media_type="image/jpeg", url="https://example.org/b.jpg"),
        TextPart("]}"),
    )


def test_a_text_that_looks_like_the_picture_stays_text():
    url = "https://example.org/a.png"
    content = content_of("x: P{i: Image, source: str} -> y", "json", x={"i": url, "source": url})
    assert [part for part in content if isinstance(part, ImagePart)] == [
        ImagePart(media_type="image/png", url=url)
    ]
    assert f'"source": "{url}"' in Message("user", content).text


def test_the_chat_layout_ends_with_its_reminder_after_the_picture():
    model = ScriptedModel("[[ ## y ## ]]\nyes", capabilities=["vision"])
    dspex.Predict("x: Image -> y")(RunContext(model=model), x=PICTURE)
    content = model.requests[0].messages[-1].content
    assert isinstance(content, tuple)
    first, picture, last = content
    assert first == TextPart("[[ ## x ## ]]\n")
    assert isinstance(picture, ImagePart)
    assert isinstance(last, TextPart)
    assert last.text.startswith("\n\nAnswer with `[[ ## y ## ]]`")


@pytest.mark.parametrize("picture", [PICTURE, JSON, JSON["url"]])
def test_a_demonstration_shows_its_picture(picture):
    model = ScriptedModel('{"y": "yes"}', capabilities=["vision"])
    predict = dspex.Predict("x: Image -> y", demos=[{"x": picture, "y": "a"}], adapter="json")
    predict(RunContext(model=model), x=PICTURE)
    demo, query = (message.content for message in model.requests[0].messages[1::2])
    assert demo == query == (TextPart("[[ ## x ## ]]\n"), ImagePart(**PICTURE_PART))


PICTURE_PART = {"media_type": "image/png", "data": PICTURE_BYTES}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"url": "data:image/png;base64,%%%"}, "is not base64"),
        ({"url": "data:text/html;base64,PGI+"}, "holds text/html, not a picture"),
        ({"url": "file:///etc/passwd"}, "only https://, http:// and base64 data:"),
        ({"url": "ftp://example.org/a.png"}, "only https://, http:// and base64 data:"),
        ({"url": "data:image/png,raw"}, "only https://, http:// and base64 data:"),
    ],
)
def test_a_picture_that_cannot_be_sent_is_an_error_with_its_place(value, problem):
    with pytest.raises(MediaError, match=problem) as caught:
        content_of("x: list[Image] -> y", x=[value])
    assert caught.value.context["path"] == "x[0]"


def test_a_too_large_picture_is_an_error_with_its_place():
    url = data_uri(b"\x89PNG\r\n\x1a\n" + bytes(MAX_MEDIA_BYTES), "image/png")
    with pytest.raises(MediaError, match=r"x\[0\] has more than") as caught:
        content_of("x: list[Image] -> y", x=[{"url": url}])
    assert caught.value.context["path"] == "x[0]"


@pytest.mark.parametrize("path", ["/etc/passwd", "photo.png", "../x.png", "C:\\x.png"])
def test_a_path_in_place_of_a_url_is_refused_and_never_read(path):
    with pytest.raises(InputError, match="because no path is read") as caught:
        content_of("x: Image -> y", x={"url": path})
    assert caught.value.fields[0].path == "x"


HISTORY = History(
    [
        Turn("user", {"q": "Who?", "photo": PICTURE}),
        Turn("assistant", "Ada."),
        Turn("user", "And when?"),
        Turn("assistant", {"mood": "calm", "y": "1843."}),
    ]
)


def test_a_history_becomes_turns_in_the_chat_layout():
    model = ScriptedModel("[[ ## mood ## ]]\ncalm\n\n[[ ## y ## ]]\nyes", capabilities=["vision"])
    predict = dspex.Predict("q, photo: Image?, chat: History -> mood, y")
    predict(RunContext(model=model), q="Sure?", chat=HISTORY)
    system, *turns, last = model.requests[0].messages
    assert "`chat` (" not in system.text
    assert [(turn.role, turn.content) for turn in turns] == [
        (
            "user",
            (
                TextPart("[[ ## q ## ]]\nWho?\n\n[[ ## photo ## ]]\n"),
                ImagePart(**PICTURE_PART),
            ),
        ),
        ("assistant", "[[ ## y ## ]]\nAda.\n\n[[ ## completed ## ]]"),
        ("user", "[[ ## q ## ]]\nAnd when?"),
        ("assistant", "[[ ## mood ## ]]\ncalm\n\n[[ ## y ## ]]\n1843.\n\n[[ ## completed ## ]]"),
    ]
    assert last.text.startswith("[[ ## q ## ]]\nSure?\n\n[[ ## photo ## ]]\nnull\n\nAnswer with")


@pytest.mark.parametrize("adapter", ["json", "tools"])
def test_a_history_becomes_turns_in_json(adapter):
    model = ScriptedModel('{"mood": "calm", "y": "yes"}', capabilities=["vision"])
    predict = dspex.Predict("q, photo: Image?, chat: History -> mood, y", adapter=adapter)
    predict(RunContext(model=model), q="Sure?", chat=HISTORY)
    replies = [turn.content for turn in model.requests[0].messages if turn.role == "assistant"]
    assert replies == ['{"y": "Ada."}', '{"mood": "calm", "y": "1843."}']


def test_the_history_of_a_demonstration_is_before_it():
    demo = {
        "q": "two",
        "chat": {"messages": [{"role": "user", "content": "one"}]},
        "y": "2",
    }
    model = ScriptedModel('{"y": "yes"}')
    predict = dspex.Predict("q, chat: History -> y", demos=[demo], adapter="json")
    predict(RunContext(model=model), q="four", chat=[{"role": "user", "content": "three"}])
    texts = [message.text.removeprefix("[[ ## q ## ]]\n") for message in model.requests[0].messages]
    assert texts[1:] == ["one", "two", '{"y": "2"}', "three", "four"]


def test_a_turn_of_the_system_stays_one_and_other_roles_are_refused():
    model = ScriptedModel('{"y": "yes"}')
    predict = dspex.Predict("q, chat: History -> y", adapter="json")
    predict(RunContext(model=model), q="?", chat=[Turn("system", "Be brief.")])
    assert model.requests[0].messages[1] == Message("system", "Be brief.")
    with pytest.raises(InputError, match="role of a turn") as caught:
        predict(RunContext(model=model), q="?", chat=[Turn("narrator", "Once.")])
    assert caught.value.fields[0].path == "chat.messages[0].role"


def test_a_turn_of_the_assistant_cannot_hold_a_picture():
    with pytest.raises(MediaError, match=r"chat\.messages\[0\]\.content"):
        content_of("q, chat: History -> y", "json", q="?", chat=[Turn("assistant", PICTURE)])


@pytest.mark.parametrize("capabilities", [["vision"], ["tools", "vision"]])
def test_an_agent_sees_the_picture_and_the_conversation(capabilities):
    answer = ToolCall("1", "finish", {"y": "no"})
    finish = '{"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}}'
    script = [answer] if "tools" in capabilities else [finish, '{"reasoning": "r", "y": "no"}']
    model = ScriptedModel(*script, capabilities=[*capabilities])
    agent = dspex.ReAct("x: Image, chat: History -> y", [])
    agent(
        RunContext(model=model, adapter=find_adapter("json")), x=PICTURE, chat=[Turn("user", "Hi")]
    )
    messages = model.requests[0].messages
    assert "Hi" in messages[1].text
    assert ImagePart(**PICTURE_PART) in messages[2].content


def test_an_answer_that_a_check_refuses_is_shown_after_the_conversation():
    class Careful(dspex.Module):
        def __init__(self) -> None:
            self.ask = dspex.Predict("q, chat: History -> y", adapter="json")

        async def forward(self, q, chat):
            result = await self.ask.acall(q=q, chat=chat)
            dspex.Assert(result.y == "long enough", "too short", of=result)
            return result

    model = ScriptedModel('{"y": "no"}', '{"y": "long enough"}')
    chat = [Turn("user", "Hi"), Turn("assistant", "Hello")]
    Careful()(RunContext(model=model), q="?", chat=chat)
    assert model.requests[1].messages[-2] == Message("assistant", '{"y": "no"}')


def test_a_trace_holds_the_hash_of_a_picture_and_not_its_bytes():
    model = ScriptedModel('{"y": "yes"}', capabilities=["vision"])
    context = RunContext(model=model, records_payloads=True)
    prediction = dspex.Predict("x: Image -> y", adapter="json")(context, x=PICTURE)
    assert prediction.trace is not None
    (span,) = [span for span in prediction.trace.spans if span.kind == "model"]
    assert span.inputs_ref is not None
    assert len(span.inputs_ref) < 2000
    assert hashlib.sha256(PICTURE_BYTES).hexdigest() in span.inputs_ref
