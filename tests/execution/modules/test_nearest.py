"""Demonstrations that an embedder chooses for each call."""

import asyncio
import importlib.util
import warnings
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import numpy
import pytest

import dspex
from dspex import ChainOfThought, Predict
from dspex.errors import BudgetError, ConfigurationError, DefinitionError, ModelError, VariableError
from dspex.execution.backends import IsolatedBackend, NativeBackend
from dspex.execution.backends.dspy_bridge.definitions import lower
from dspex.execution.backends.dspy_bridge.functions import Functions
from dspex.execution.clients import Budget
from dspex.execution.context import RunContext
from dspex.execution.modules import build
from dspex.language.programs import Program
from dspex.models import EmbeddingKind, Embeddings, HashingEmbedder
from dspex.testing import ScriptedModel

WORDS = ["red", "green", "blue", "small", "large", "round", "old", "new"]
DEMOS = [
    {"q": f"{first} {second}", "a": f"{first}-{second}"}
    for first in WORDS
    for second in WORDS
    if first != second
]
REPLY = "[[ ## a ## ]]\nyes"


class CountingEmbedder:
    """Hashes words and counts the texts that it gets."""

    def __init__(self) -> None:
        self.inner = HashingEmbedder(256)
        self.name, self.dimensions, self.fingerprint = "counting", 256, "counting"
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        self.texts += texts
        return await self.inner.embed(texts, kind)

    async def aclose(self) -> None:
        pass


def run(module: Any, *replies: str, **inputs: str) -> tuple[Any, list[str]]:
    """Return the prediction, and the answers that the first prompt shows."""
    model = ScriptedModel(*(replies or (REPLY,)))
    with dspex.context(model=model):
        prediction = module(**inputs)
    answers = [
        message.text for message in model.requests[0].messages if message.role == "assistant"
    ]
    return prediction, [text.split("\n")[1] for text in answers]


def test_the_nearest_demonstrations_are_shown_and_traced() -> None:
    predict = Predict("q -> a", demos=DEMOS, nearest=3, embedder=HashingEmbedder(256))
    prediction, answers = run(predict, q="old new")
    assert set(answers[:2]) == {"old-new", "new-old"}
    assert len(answers) == 3
    span = next(span for span in prediction.trace.spans if span.kind == "retrieval")
    places = span.attributes["demonstrations"]
    assert [DEMOS[place]["a"] for place in places] == answers
    assert span.attributes["k"] == 3
    assert span.attributes["scores"] == sorted(span.attributes["scores"], reverse=True)
    assert prediction.usage.input_tokens > 0
    assert span.parent_id == prediction.trace.spans[-1].span_id


def test_a_pool_is_embedded_once_whoever_asks() -> None:
    embedder = CountingEmbedder()
    predict = Predict("q -> a", demos=DEMOS, nearest=2, embedder=embedder)
    context = RunContext(model=ScriptedModel(REPLY))

    async def many() -> None:
        await asyncio.gather(*(predict.acall(context, q=f"red {n}") for n in range(20)))

    asyncio.run(many())
    assert len(embedder.texts) == len(DEMOS) + 20
    asyncio.run(many())  # on another loop
    assert len(embedder.texts) == len(DEMOS) + 40
    predict.demos = DEMOS[:4]
    asyncio.run(many())
    assert len(embedder.texts) == len(DEMOS) + 4 + 60


def test_the_fallback_shows_the_same_demonstrations() -> None:
    predict = Predict("q -> a", demos=DEMOS, nearest=1, embedder="hash/256")
    model = ScriptedModel("no layout", '{"a": "yes"}')
    with dspex.context(model=model):
        prediction = predict(q="old new")
    assert prediction.fallback is not None
    first, second = (request.messages[1].text for request in model.requests)
    assert "old new" in first or "new old" in first
    assert second in first
    assert len([span for span in prediction.trace.spans if span.kind == "retrieval"]) == 1


def test_demonstrations_without_inputs_are_never_chosen_and_none_are_needed() -> None:
    demos = [{"a": "lonely"}, {"q": "red", "a": "r"}, {"q": "blue", "a": "b"}]
    _, answers = run(Predict("q -> a", demos=demos, nearest=5, embedder="hash"), q="red")
    assert answers == ["r", "b"]
    prediction, answers = run(Predict("q -> a", nearest=5, embedder="hash"), q="red")
    assert (prediction.a, answers) == ("yes", [])


@pytest.mark.parametrize("kind", [Predict, ChainOfThought])
def test_the_setting_is_stored(kind: Any) -> None:
    module = kind("q -> a", demos=DEMOS, nearest=2, embedder="hash/256")
    program = Program.from_json(module.to_program().to_json())
    reply = "[[ ## reasoning ## ]]\nso\n\n[[ ## a ## ]]\nyes"
    assert len(run(build(program), reply, q="old new")[1]) == 2
    predict = Predict("q -> a", demos=DEMOS, nearest=2, embedder="hash/256")
    fresh = Predict("q -> a")
    fresh.restore(predict.state())
    assert (fresh.nearest, fresh.embedder) == (2, "hash/256")


def test_count_and_embedder_are_variables() -> None:
    predict = Predict(
        "q -> a",
        demos=DEMOS,
        nearest=dspex.Integer(1, 4, default=2),
        embedder=dspex.OneOf("hash/64", "hash/256"),
    )
    program = predict.to_program()
    assert {"self.nearest", "self.embedder"} <= program.space.keys()
    module = build(program.assign({"self.nearest": 4, "self.embedder": "hash/256"}))
    assert len(run(module, q="old new")[1]) == 4
    with pytest.raises(VariableError, match="takes a whole number from 1"):
        Predict("q -> a", nearest=dspex.Integer(1, 2000))


@pytest.mark.parametrize("setting", [{"nearest": 0}, {"nearest": 2.5}, {"nearest": "2"}])
def test_other_counts_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="`nearest` of Predict takes a whole number from 1"):
        Predict("q -> a", **setting)


def test_optimizers_choose_what_is_chosen_from() -> None:
    rows = dspex.Dataset.from_rows(DEMOS)
    predict = Predict("q -> a", nearest=2, embedder="hash/256")
    optimizer = dspex.optimizers.LabeledFewShot(k=40, candidates=2)
    model = ScriptedModel(REPLY)
    with dspex.context(model=model):
        outcome = dspex.optimize(predict, optimizer, train=rows, metric=dspex.exact_match)
    assert max(len(request.messages) for request in model.requests) <= 2 + 2 * 2
    assert len(run(outcome.program, q="old new")[1]) <= 2


def test_errors_of_the_embedder_reach_the_caller() -> None:
    class Failing(CountingEmbedder):
        async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
            raise ModelError("the server is away")

    predict = Predict("q -> a", demos=DEMOS, nearest=2, embedder=Failing())
    with pytest.raises(ModelError, match="away"):
        run(predict, q="?")
    named = Predict("q -> a", demos=DEMOS, nearest=2, embedder="hash")
    with pytest.raises(ConfigurationError, match="cannot resolve the embedder 'hash'"):
        named(RunContext(model=ScriptedModel(REPLY)), q="?")
    with (
        dspex.context(model=ScriptedModel(REPLY), budget=Budget(tokens=5)),
        pytest.raises(BudgetError),
    ):
        named(q="?")


def test_dspy_has_no_such_setting() -> None:
    program = Predict("q -> a", demos=DEMOS, nearest=2).on("dspy").to_program()
    with pytest.raises(DefinitionError, match="no `nearest`"):
        lower(program, Functions({}))


@pytest.mark.bridge
async def test_in_a_worker_the_embedder_is_that_of_the_parent() -> None:
    embedder = CountingEmbedder()
    for name, default in (("mine", None), (None, embedder)):
        program = Predict("q -> a", demos=DEMOS, nearest=2, embedder=name).to_program("p")
        answers = []
        for backend in (NativeBackend(), IsolatedBackend()):
            async with AsyncExitStack() as stack:
                if isinstance(backend, IsolatedBackend):
                    await stack.enter_async_context(backend)
                model = ScriptedModel(REPLY)
                context = RunContext(
                    model=model,
                    embedder=default,
                    embedders={"mine": embedder}.__getitem__,
                    budget=Budget(tokens=100_000),
                )
                handle = await backend.create_program(program)
                for _ in range(2):  # the second call has the vectors of the demonstrations
                    embedder.texts.clear()
                    prediction = await backend.execute_program(handle, {"q": "red"}, context)
                assert len(embedder.texts) == 1
                (span,) = (span for span in prediction.trace.spans if span.kind == "retrieval")
                assert span.usage is not None
                answers.append(([request.messages for request in model.requests], span.usage))
        assert answers[0] == answers[1]


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
@pytest.mark.parametrize("question", ["old new", "red", "small round blue", "none of them"])
def test_they_are_those_that_dspy_chooses(question: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dspy

    hashing = HashingEmbedder(256)

    def embed(texts: list[str]) -> Any:
        return numpy.asarray(asyncio.run(hashing.embed(texts)).vectors)

    examples = [dspy.Example(**demo).with_inputs("q") for demo in DEMOS]
    knn = dspy.KNN(5, examples, dspy.Embedder(embed, caching=False))
    theirs = knn(q=question)
    predict = Predict("q -> a", demos=DEMOS, nearest=5, embedder=hashing)
    prediction, answers = run(predict, q=question)
    (span,) = (span for span in prediction.trace.spans if span.kind == "retrieval")
    vectors = embed([f"q: {demo['q']}" for demo in DEMOS])
    scores = vectors @ embed([f"q: {question}"])[0]
    ours = [float(scores[place]) for place in span.attributes["demonstrations"]]
    expected = sorted((float(scores[DEMOS.index(dict(e))]) for e in theirs), reverse=True)
    assert ours == pytest.approx(expected)  # equal scores may be in any order
    assert len(answers) == 5
