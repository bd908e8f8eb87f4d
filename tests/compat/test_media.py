"""A picture reaches a model as dspy and litellm send it, in the same place between the texts."""

import pytest

import dspex
from dspex.media import Image
from dspex.models import OpenAIModel
from dspex.sync import run
from tests.support.answering_server import AnsweringServer
from tests.support.pictures import png

dspy = pytest.importorskip("dspy", reason="pip install 'dspex[dspy]'")
pytestmark = pytest.mark.full


def test_a_picture_is_sent_as_dspy_sends_it() -> None:
    picture = Image(png(4, 4))
    with AnsweringServer({"answer": "yes"}) as server:
        base = server.model.partition("#")[0]
        with dspy.context(lm=dspy.LM("openai/m", api_base=base, api_key="k", cache=False)):
            dspy.Predict("photo: dspy.Image, q -> answer")(photo=dspy.Image(picture.url), q="?")
        model = OpenAIModel("m", base_url=base, media=["vision"])
        with dspex.context(model=model):
            dspex.Predict("photo: Image, q -> answer")(photo=picture, q="?")
        run(model.aclose())
        theirs, ours = (request["messages"][-1]["content"] for request in server.asked)
    assert [part["type"] for part in ours] == ["text", "image_url", "text"]
    assert ours[:2] == theirs[:2]
    assert [part["text"].split("\n\n")[1] for part in (ours[2], theirs[2])] == [
        "[[ ## q ## ]]\n?"
    ] * 2
