"""`pytest` runs these tests, `pytest --dspex-model NAME` also the one of quality."""

import json
from pathlib import Path

import pytest
from program import ask, handbook

import dspex
from dspex.evaluation import recall_at
from dspex.surfaces.pytest_plugin import Evaluation
from dspex.testing import ScriptedModel

ROWS = dspex.Dataset.from_file(Path(__file__).with_name("data.csv"))


def test_every_question_is_about_a_document_that_exists() -> None:
    assert {row["relevant"] for row in ROWS} <= set(handbook)


def test_search_finds_the_document() -> None:
    retrieve = dspex.Retrieve(handbook, k=3, query="question")
    report = dspex.evaluate(retrieve, ROWS.where(split="test"), recall_at(5))
    assert report.mean >= 0.8


def test_answers_quote_the_handbook() -> None:
    source = {"passage": 1, "sentence": 1}
    answer = {"statements": [{"text": "Within 30 days.", "sources": [source]}]}
    model = ScriptedModel(json.dumps({"reasoning": "", "answer": answer}))
    with dspex.context(model=model, adapter="json"):
        cited = ask(question="How long can I return a lamp?").answer
    (source,) = cited.sources
    assert source.quote in handbook.document(source.document).text


def test_quality(dspex_eval: Evaluation, pytestconfig: pytest.Config) -> None:
    """Raise the limit when the program gets better."""
    if pytestconfig.getoption("--dspex-model") is None:
        pytest.skip("no --dspex-model")
    dspex_eval(ask, ROWS.where(split="test"), must=["exact_match>=0"])
