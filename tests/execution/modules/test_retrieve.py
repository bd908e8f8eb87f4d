"""Retrieve and RAG: search, trace, variables and storage."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import (
    ConfigurationError,
    DefinitionError,
    InputError,
    RetrievalError,
    VariableError,
)
from dspex.execution.adapters.registry import JSON
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.collection import Collection
from dspex.execution.modules import CodeRoot, build
from dspex.execution.modules.rag import RAG
from dspex.execution.modules.rerank import Rerank
from dspex.execution.modules.retrieve import Retrieve
from dspex.language.programs import Program
from dspex.language.records import Passage
from dspex.language.variables import Choice, Float, Integer
from dspex.language.variables.presets import retriever_k
from dspex.telemetry import Status
from dspex.testing import ScriptedModel
from dspex.testing.retrievers import DOCUMENTS

QUESTION = "How long can I return a lamp?"


def handbook() -> Collection:
    rows = [{"key": key, "text": text, **data} for key, (text, data) in DOCUMENTS.items()]
    return Collection.from_rows(rows, name="handbook", embedder=HashingEmbedder(256))


def keys(prediction: Any) -> list[str | None]:
    return [passage.document for passage in prediction.passages]


def context(*replies: Any, **settings: Any) -> dspex.RunContext:
    return dspex.RunContext(
        model=ScriptedModel(*(replies or ("unused",))),
        embedders=lambda name: HashingEmbedder(256),
        **settings,
    )


def test_it_returns_the_best_passages_and_records_them() -> None:
    prediction = Retrieve(handbook(), k=2)(context(), query=QUESTION)
    assert keys(prediction)[0] == "lamps"
    (span,) = [span for span in prediction.trace.spans if span.kind == "retrieval"]
    assert span.name == "handbook"
    assert span.attributes["ids"] == [passage.id for passage in prediction.passages]
    assert span.attributes["scores"] == [passage.score for passage in prediction.passages]
    assert (span.attributes["exact"], span.attributes["scanned"]) == (True, 4)
    assert prediction.trace.usage.by_model["hash"].calls == 2


def test_payloads_are_recorded_on_request() -> None:
    prediction = Retrieve(handbook(), k=1)(context(records_payloads=True), query=QUESTION)
    span = next(span for span in prediction.trace.spans if span.kind == "retrieval")
    assert QUESTION in (span.inputs_ref or "")
    assert "thirty days" in (span.outputs_ref or "")


def test_filters_order_and_modes() -> None:
    shop = handbook()
    payment = Retrieve(shop, where={"topic": "payment"})
    assert keys(payment(context(), query=QUESTION)) == ["cards"]
    first = keys(Retrieve(shop, k=3, mode="lexical")(context(), query=QUESTION))
    last = keys(Retrieve(shop, k=3, mode="lexical", order="best last")(context(), query=QUESTION))
    assert last == first[::-1]
    assert len(keys(Retrieve(shop, k=1, mode="whole")(context(), query=QUESTION))) == 4


class Fixed:
    """A retriever of a user."""

    name = "fixed"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def search(
        self, query: str, k: int = 5, where: Mapping[str, Any] | None = None
    ) -> Sequence[Passage]:
        if self.error is not None:
            raise self.error
        return [Passage(text=query, id="1")][:k]


def test_any_object_with_a_search_is_a_retriever() -> None:
    assert Retrieve(Fixed())(context(), query="x").passages == [Passage(text="x", id="1")]
    with pytest.raises(RetrievalError, match="the retriever 'fixed': ValueError: broken"):
        Retrieve(Fixed(ValueError("broken")))(context(), query="x")
    with pytest.raises(DefinitionError, match="has its own way to search"):
        Retrieve(Fixed(), mode="lexical")


def test_a_name_is_resolved_by_the_context() -> None:
    shop = handbook()
    by_name = Retrieve("handbook", k=1)
    assert keys(by_name(context(collections={"handbook": shop}.__getitem__), query=QUESTION))
    with pytest.raises(ConfigurationError, match="the collection 'handbook' is stored"):
        by_name(context(), query=QUESTION)


def test_reranking_and_rewriting_are_modules_with_prompts() -> None:
    retrieve = Retrieve(handbook(), k=2, rerank=True, rewrite=True, candidates=4)
    replies = ['{"query": "credit cards"}', '{"order": [9, 2, 1]}']
    prediction = retrieve(context(*replies, adapter=JSON), query=QUESTION)
    span = next(span for span in prediction.trace.spans if span.kind == "retrieval")
    assert span.attributes["k"] == 4
    ids = span.attributes["ids"]
    assert [passage.id for passage in prediction.passages] == [ids[1], ids[0]]  # type: ignore[index]
    space = retrieve.variables()
    assert {"reranker.predict.instructions", "rewriter.instructions"} <= set(space)


def test_every_setting_is_a_variable() -> None:
    retrieve = Retrieve(
        handbook(),
        k=Integer(1, 4, default=2),
        mode=Choice("hybrid", "lexical"),
        weight=Float(0, 1, default=0.5),
        chunking=Choice({"tokens": 200}, {"tokens": 5, "overlap": 0}),
        order=Choice("best first", "best last"),
        rerank=Choice(False, True),
    )
    values = {
        "self.config.k": 1,
        "self.config.mode": "lexical",
        "self.config.weight": 0.2,
        "self.config.chunking": {"tokens": 5, "overlap": 0},
        "self.config.order": "best last",
        "self.config.reranks": False,
    }
    assert values.keys() <= set(retrieve.variables())
    changed = retrieve.assign(values)
    assert changed.collection is retrieve.collection
    (passage,) = changed(context(), query=QUESTION).passages
    assert len(passage.text) <= 20
    with pytest.raises(VariableError):
        retrieve.assign({"self.config.mode": "sparse"})


def test_presets_and_outer_variables_bind() -> None:
    ask = RAG("question -> answer", handbook()).with_variables(retriever_k("retrieve", 10))
    assert ask.assign({"retrieve.config.k": 7}).retrieve.k == 7
    with pytest.raises(VariableError, match="a whole number from 1 to 1000"):
        Retrieve(handbook(), k=Integer(0, 3))
    with pytest.raises(DefinitionError, match="takes a Collection, the name of a stored one"):
        RAG("question -> answer", 5)
    with pytest.raises(DefinitionError, match="`mode` of Retrieve takes one of: lexical"):
        Retrieve(handbook(), mode="sparse")
    with pytest.raises(DefinitionError, match="a number from 0 to 1"):
        Retrieve(handbook(), weight=2.0)
    with pytest.raises(InputError, match="where"):
        Retrieve(handbook(), where={"a": {"like": "b"}})


@pytest.mark.parametrize("inputs", [{}, {"query": 3}, {"query": " "}, {"question": "x"}])
def test_a_wrong_query_is_an_input_error(inputs: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Retrieve(handbook())(context(), **inputs)


def test_a_collection_outside_of_files_is_stored_by_its_name() -> None:
    shop = handbook()
    retrieve = Retrieve(shop, k=3, mode="lexical", where={"topic": "returns"}, rerank=True)
    program = retrieve.to_program()
    assert program.root.config["collection"] == "handbook"
    module = build(Program.from_dict(json.loads(json.dumps(program.to_dict()))))
    assert module.to_program().content_hash == program.content_hash
    run = context("[[ ## order ## ]]\n[2]", collections={"handbook": shop}.__getitem__)
    assert keys(module(run, query="return a lamp")) == ["sofas", "lamps"]
    with pytest.raises(DefinitionError, match="at the top level of a file"):
        Retrieve(Fixed()).to_program()


def test_a_collection_in_a_file_is_stored_by_its_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(__file__).with_name("handbook.py").read_text(encoding="utf-8")
    (tmp_path / "shop_rag.py").write_text(source, encoding="utf-8")
    code = CodeRoot(tmp_path)
    ask = code.load("shop_rag:ask")
    program = Program.from_dict(json.loads(json.dumps(ask.to_program().to_dict())))
    (retrieve,) = [node for node in program.root.walk() if node.kind == "retrieve"]
    assert retrieve.config["collection"]["target"] == "shop_rag:handbook"
    module = build(program, code=code)
    assert isinstance(module, RAG)
    assert module.retrieve.collection is sys.modules["shop_rag"].handbook
    with pytest.raises(DefinitionError, match="is code, and code is not loaded here"):
        build(program)


def cited_reply(**source: int) -> str:
    answer = {"statements": [{"text": "Within thirty days.", "sources": [source]}]}
    return (
        f"[[ ## reasoning ## ]]\nx\n\n[[ ## answer ## ]]\n{json.dumps(answer)}\n\n"
        "[[ ## completed ## ]]"
    )


def test_rag_answers_with_quotes_of_its_documents() -> None:
    shop = handbook()
    ask = RAG("question -> answer: Cited", shop, k=4)
    prediction = ask(context(cited_reply(passage=1, sentence=1)), question=QUESTION)
    (source,) = prediction.answer.sources
    assert source.document == "lamps"
    text = shop.document("lamps").text
    assert text[source.start : source.end] == source.quote
    assert keys(prediction)[0] == "lamps"
    assert prediction.reasoning == "x"


async def test_rag_streams_its_steps() -> None:
    ask = RAG("question -> answer: Cited", handbook(), k=1)
    run = context(cited_reply(passage=1))
    events = [event async for event in ask.stream(run, question=QUESTION)]
    statuses = [(event.path, event.state) for event in events if isinstance(event, Status)]
    assert ("retrieve", "done") in statuses
    assert ("answer.predict", "begun") in statuses


def test_the_signature_of_rag_says_what_comes_back() -> None:
    ask = RAG("question -> answer: Cited", handbook())
    contract = ask.contract()
    assert list(contract.input_fields) == ["question"]
    assert list(contract.output_fields) == ["reasoning", "answer", "passages"]
    with pytest.raises(DefinitionError, match="needs an input that is a text"):
        RAG("n: int -> answer", handbook())
    with pytest.raises(DefinitionError, match="RAG adds the field 'passages' itself"):
        RAG("question -> passages", handbook())


def test_reranking_alone_is_a_module() -> None:
    passages = [Passage(text=text) for text in ("a", "b", "c")]
    ranking = Rerank()(
        context("[[ ## order ## ]]\n[3, 3, 7]"), query="x", passages=passages
    ).ranking
    assert [passage.text for passage in ranking] == ["c", "a", "b"]
