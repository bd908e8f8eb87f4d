"""Metrics of retrieval agree with trec_eval; RAG errors are told apart."""

import math
from typing import Any

import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

import dspex
from dspex.errors import DefinitionError
from dspex.evaluation import (
    average_precision,
    evaluate_rag,
    exact_match,
    f1,
    hit_at,
    ndcg_at,
    recall_at,
    reciprocal_rank,
    supported,
)
from dspex.execution.collection import Collection
from dspex.execution.modules.retrieve import Retrieve
from dspex.language.records import Example, Passage, Prediction
from dspex.language.signatures.content import Cited, CitedSource, CitedStatement
from dspex.learning.evaluation.metrics import METRICS
from dspex.testing import ScriptedModel

KEYS = [f"d{number}" for number in range(12)]


def ranked(*keys: str) -> Prediction:
    return Prediction(passages=[Passage(text="", id=f"{key}#1", document=key) for key in keys])


@settings(max_examples=200, deadline=None)
@given(
    ranking=st.permutations(KEYS).flatmap(lambda keys: st.integers(0, 12).map(lambda n: keys[:n])),
    grades=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 3), min_size=1),
)
def test_figures_are_those_of_trec_eval(ranking: list[str], grades: dict[str, int]) -> None:
    names = {"recall_1,5", "ndcg_cut_10", "recip_rank", "map", "success_1,5"}
    evaluator = pytrec_eval.RelevanceEvaluator({"q": grades}, names)
    scores = {key: float(len(ranking) - rank) for rank, key in enumerate(ranking)}
    expected = evaluator.evaluate({"q": scores}).get("q") if scores else None
    prediction = ranked(*ranking)
    example = Example(relevant=grades)
    figures = {
        "recall_1": recall_at(1)(example, prediction),
        "recall_5": recall_at(5)(example, prediction),
        "success_1": hit_at(1)(example, prediction),
        "success_5": hit_at(5)(example, prediction),
        "recip_rank": reciprocal_rank(example, prediction),
        "map": average_precision(example, prediction),
        "ndcg_cut_10": ndcg_at(10)(example, prediction),
    }
    for name, figure in figures.items():
        assert math.isclose(figure, expected[name] if expected else 0.0, abs_tol=1e-9), name


@pytest.mark.parametrize(
    "relevant", ["d1", ["d1"], {"d1": 1}, '["d1"]', '{"d1": 2}', "d1#1", ("d1",)]
)
def test_relevance_has_many_forms(relevant: Any) -> None:
    assert reciprocal_rank(Example(relevant=relevant), ranked("d0", "d0", "d1")) == 0.5


@pytest.mark.parametrize("relevant", [None, [], {}, {"d1": 0}, "[", 3])
def test_without_relevance_there_is_no_score(relevant: Any) -> None:
    with pytest.raises(DefinitionError, match="relevant"):
        recall_at(5)(Example(relevant=relevant), ranked("d1"))


def test_a_prediction_without_passages_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="need the output `passages`"):
        recall_at(5)(Example(relevant="d1"), Prediction(answer="x"))


def test_the_registry_has_them_by_name() -> None:
    names = {"recall@5", "hit@1", "reciprocal_rank", "average_precision", "ndcg@10", "supported"}
    assert names <= METRICS.keys()


def test_every_cutoff_has_a_name() -> None:
    assert METRICS["recall@4"] is recall_at(4)
    assert {"hit@2", "ndcg@3", "recall@999999"}.isdisjoint(list(METRICS))
    assert all(name in METRICS for name in ("hit@2", "ndcg@3", "recall@999999"))
    assert not any(name in METRICS for name in ("recall@0", "recall@", "f1@2", "recall@1000000"))


def test_reports_have_intervals_of_them() -> None:
    texts = {"lamps": "Return a lamp.", "cards": "Pay by card."}
    retrieve = Retrieve(Collection.from_texts(texts, embedder="hash"), mode="lexical", k=1)
    rows = [{"query": "lamp", "relevant": "lamps"}, {"query": "card", "relevant": "lamps"}]
    report = dspex.evaluate(retrieve, dspex.Dataset.from_rows(rows), recall_at(1))
    assert report.mean == 0.5
    assert report.interval().low < 0.5 < report.interval().high


def test_supported_is_the_share_of_sentences_with_a_source() -> None:
    cited = Cited(
        [
            CitedStatement("One. Two.", [CitedSource(1, quote="x")]),
            CitedStatement("Three."),
        ]
    )
    assert supported(Example(), Prediction(answer=cited)) == pytest.approx(2 / 3)
    assert supported(Example(), Prediction(answer=Cited())) == 1
    with pytest.raises(DefinitionError, match="Cited"):
        supported(Example(), Prediction(answer="text"))


def test_metrics_of_answers_read_the_text_of_citations() -> None:
    cited = Cited([CitedStatement("Thirty days.", [CitedSource(1, quote="x")])])
    assert exact_match(Example(answer="Thirty days."), Prediction(answer=cited)) == 1
    assert f1(Example(answer="thirty"), Prediction(answer=cited)) == pytest.approx(2 / 3)


def test_each_error_of_rag_has_its_cause() -> None:
    texts = {"lamps": "Return a lamp.", "cards": "Pay by card."}
    collection = Collection.from_texts(texts, embedder="hash")
    ask = dspex.RAG("question -> answer", collection, mode="lexical", k=1)
    answers = {"lamp": "right", "card": "wrong", "sofa": "wrong", "shop": "right", "fail": ""}

    def reply(request: Any) -> str | Exception:
        prompt = request.messages[-1].content
        answer = next(value for name, value in answers.items() if f"ask {name}" in prompt)
        text = f"[[ ## reasoning ## ]]\nx\n\n[[ ## answer ## ]]\n{answer}"
        return text if answer else dspex.errors.RefusedError("no")

    relevant = {"card": "cards"}
    rows = [
        {"question": f"ask {name}", "answer": "right", "relevant": relevant.get(name, "lamps")}
        for name in answers
    ]
    report = evaluate_rag(
        ask,
        dspex.Dataset.from_rows(rows),
        context=dspex.RunContext(model=ScriptedModel(reply)),
        more={"recall": recall_at(1)},
    )
    expected = ("right", "ignored", "not retrieved", "right without the passage", "failed")
    assert report.cases == expected
    assert [row.index for row in report.rows("ignored")] == [1]
    assert report.to_dict()["rows"][2]["case"] == "not retrieved"
    assert report.report.mean_of("recall") == 0.5
