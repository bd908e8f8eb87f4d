"""Judges that score each answer several times, and what their scores say of them."""

import re

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.evaluation import Judge, judge_variance
from dspex.learning.evaluation.breakdown import breakdown
from dspex.learning.evaluation.export import to_html
from dspex.statistics import wilson
from dspex.testing import ScriptedModel
from tests.support.html_pages import check_self_contained

ROWS = dspex.Dataset.from_rows({"question": f"question {n}", "answer": "x"} for n in range(8))
PROGRAM = dspex.Predict("question -> answer")


def answer(request):
    number = re.findall(r"question (\d+)", str(request.messages[-1].content))[-1]
    return f"[[ ## answer ## ]]\nanswer {number}"


def judge(score_of):
    """Return a judge, and the model of it, whose score depends on the answer and the seed."""

    def reply(request):
        number = int(re.findall(r"answer (\d+)", str(request.messages[-1].content))[-1])
        score = score_of(number, request.rollout)
        return f"[[ ## reason ## ]]\nbecause\n\n[[ ## score ## ]]\n{score}"

    model = ScriptedModel(reply)
    return Judge("it is good", model=model), model


async def report_of(score_of, *, repeats=3):
    scorer, model = judge(score_of)
    with dspex.context(model=ScriptedModel(answer)):
        report = await dspex.aevaluate(PROGRAM, ROWS, {"good": scorer}, judge_repeats=repeats)
    return report, model


async def test_a_steady_judge_is_reliable():
    report, model = await report_of(lambda number, _seed: number / 8)
    assert len(model.requests) == report.judge_usage.calls == 24
    assert len({request.rollout for request in model.requests}) == 3
    assert {request.temperature for request in model.requests} == {model.requests[0].temperature}
    figures = judge_variance(report)
    assert (figures.repeats, figures.answers) == (3, 8)
    assert (figures.within, figures.reliability, figures.flips) == (0.0, 1.0, 0.0)
    assert report.usage.calls == 8


async def test_an_unsteady_judge_is_told_from_answers_that_differ():
    report, _ = await report_of(lambda number, seed: (number + seed) % 2)
    figures = judge_variance(report, "good")
    assert figures.flips == 1.0
    assert figures.reliability is not None
    assert figures.reliability < 0.1
    assert (figures.interval.low, figures.interval.high) == (wilson(8, 8).low, 1.0)
    assert report.rows[0].scores["good"] == pytest.approx(
        sum(report.rows[0].judgements["good"]) / 3
    )
    assert report.rows[0].to_dict()["judgements"] == {
        "good": list(report.rows[0].judgements["good"])
    }


async def test_the_page_and_the_breakdown_have_it():
    report, _ = await report_of(lambda number, seed: (number + seed) % 2)
    parts = breakdown(report, slice_by="question", pass_at=0.5)
    assert parts["judge_variance"]["good"]["flips"] == 1.0
    root = check_self_contained(to_html(report, "it", parts=parts))
    titles = [title.text for title in root.all("h2")]
    assert {"Slices: good", "Pass rate", "Judges asked again"} <= set(titles)
    assert "question 7" in root.text


async def test_once_is_not_enough_for_a_variance():
    report, _ = await report_of(lambda number, _seed: number / 8, repeats=1)
    assert report.rows[0].judgements == {}
    assert "judgements" not in report.rows[0].to_dict()
    assert breakdown(report) == {}
    with pytest.raises(DefinitionError, match="judge_repeats=3"):
        judge_variance(report)
    with (
        dspex.context(model=ScriptedModel(answer)),
        pytest.raises(DefinitionError, match="no metric is one: exact_match"),
    ):
        await dspex.aevaluate(PROGRAM, ROWS, dspex.exact_match, judge_repeats=3)
    with pytest.raises(DefinitionError, match="`judge_repeats` of aevaluate"):
        await report_of(lambda number, _seed: number, repeats=0)


async def test_hostile_values_of_a_slice_are_text_on_the_page():
    rows = dspex.Dataset.from_rows(
        {"question": f"question {n}", "answer": "x", "topic": "</script><b onclick='x'>"}
        for n in range(3)
    )
    with dspex.context(model=ScriptedModel(answer)):
        report = await dspex.aevaluate(PROGRAM, rows, dspex.exact_match)
    page = to_html(report, "it", parts=breakdown(report, slice_by="topic"))
    assert "onclick='x'>" not in page
    check_self_contained(page)
