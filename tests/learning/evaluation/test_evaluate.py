import asyncio
import enum
import json
import math
import sys
from typing import Literal

import pytest
from pydantic import BaseModel

import dspex
from dspex.errors import DefinitionError, ModelError
from dspex.language.records import Prediction
from dspex.language.signatures.content import Image
from dspex.learning.evaluation import aevaluate, constant, wilson
from dspex.sync import run
from dspex.testing import SimulatedModel
from tests.support.html_pages import read_html


class Sort(dspex.Signature):
    """Sort the text."""

    text: str
    label: Literal["a", "b"] = dspex.Output()


ROWS = dspex.Dataset.from_rows(
    [{"text": t, "label": t[0]} for t in ("a1", "b1", "a2", "boom", "b2")]
)


def _last(request):
    return request.messages[-1].content.rpartition("\n")[2]


def _echo(request):
    text = _last(request)
    if text == "boom":
        raise ModelError("the model is on fire")
    return json.dumps({"label": "b" if text == "a2" else text[0]})


def _raised(error):
    raise error


def test_failing_example_is_a_row_with_an_error_and_no_zero(rulebook):
    rows = []
    with dspex.context(model=rulebook(_echo)):
        report = run(aevaluate(dspex.Predict(Sort), ROWS, dspex.exact_match, on_row=rows.append))
    assert [row.score for row in report.rows] == [1.0, 1.0, 0.0, None, 1.0]
    assert report.rows[3].error == "ModelError: the model is on fire"
    assert (report.mean, report.scored, report.failed) == (0.75, 4, 1)
    assert report.interval() == wilson(3, 4)
    assert report.usage.calls == 4
    assert report.usage.input_tokens == 40
    assert 0 <= report.p50 <= report.p95
    assert sorted(row.index for row in rows) == [0, 1, 2, 3, 4]
    json.dumps(report.to_dict(), allow_nan=False)


def test_program_as_data_scores_like_its_module(rulebook):
    with dspex.context(model=rulebook(_echo)):
        report = run(
            aevaluate(dspex.Predict(Sort).to_program(), ROWS, dspex.exact_match, concurrency=1)
        )
    assert report.mean == 0.75


def test_the_columns_of_wide_data_are_named_up_to_a_limit(rulebook):
    wide = dspex.Dataset.from_rows([{f"c{number}": 1 for number in range(50_000)}])
    with (
        dspex.context(model=rulebook(_echo)),
        pytest.raises(DefinitionError, match=r"c0, c1, .* and 49980 more$") as caught,
    ):
        run(aevaluate(dspex.Predict(Sort), wide, dspex.exact_match))
    assert len(str(caught.value)) < 400


def test_report_without_scores_has_no_mean_instead_of_zero(rulebook):
    with dspex.context(model=rulebook(_echo)):
        report = run(aevaluate(dspex.Predict(Sort), ROWS[3:4], dspex.exact_match))
    assert math.isnan(report.mean)
    assert report.to_dict()["metrics"]["exact_match"]["mean"] is None


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            lambda example, prediction: prediction.team == example["label"],
            "the program produces label",
        ),
        (
            lambda example, prediction: example["team"] == prediction.label,
            "the example has text, label",
        ),
        (lambda example, prediction: 1 / 0, "ZeroDivisionError"),
        (lambda example, prediction: None, "returned None"),
        (lambda example, prediction: sys.exit(3), "raised: SystemExit: 3"),
        (lambda example, prediction: math.nan, "finite"),
        (lambda example, prediction: 10**400, "finite"),
        (lambda example, prediction: "1", "finite"),
        (
            lambda example, prediction: _raised(ModelError("the judge is on fire")),
            "raised: ModelError: the judge is on",
        ),
        (
            lambda example, prediction: dspex.Predict("a -> b")(a="1").b,
            r"a metric cannot await.*Judge",
        ),
    ],
)
def test_broken_metric_ends_the_evaluation_with_a_clear_error(rulebook, metric, message):
    with dspex.context(model=rulebook(_echo)), pytest.raises(DefinitionError, match=message):
        run(aevaluate(dspex.Predict(Sort), ROWS, metric))


def test_data_without_an_input_is_refused_before_any_call(rulebook):
    model = rulebook(_echo)
    rows = dspex.Dataset.from_rows([{"txt": "a", "label": "a"}])
    with dspex.context(model=model), pytest.raises(DefinitionError, match="Did you mean 'txt'"):
        run(aevaluate(dspex.Predict(Sort), rows, dspex.exact_match))
    assert not model.requests


def test_several_metrics_are_scored_in_one_pass(rulebook):
    model = rulebook(_echo)
    metrics = {
        "right": dspex.exact_match,
        "is_b": lambda example, prediction: prediction.label == "b",
    }
    with dspex.context(model=model):
        report = run(aevaluate(dspex.Predict(Sort), ROWS[:3], metrics))
    assert len(model.requests) == 3
    assert report.mean_of("right") == report.mean_of("is_b") == pytest.approx(2 / 3)
    with pytest.raises(DefinitionError, match="no metric 'wrong'"):
        report.mean_of("wrong")


def test_paired_comparison_pairs_rows_and_refuses_other_data(rulebook):
    with dspex.context(model=rulebook(_echo)):
        report = run(aevaluate(dspex.Predict(Sort), ROWS, dspex.exact_match))
    majority = dspex.evaluation.majority_class(ROWS[:3], "label")
    assert majority.value == "a"
    assert majority.share == pytest.approx(2 / 3)
    base = constant(ROWS[:3], {"label": "a"}, dspex.exact_match)
    with pytest.raises(DefinitionError, match="different data"):
        dspex.compare(report, base)
    comparison = dspex.compare(report, constant(ROWS, {"label": "b"}, dspex.exact_match))
    assert comparison.pairs == 4
    assert comparison.difference == pytest.approx(0.25)
    assert comparison.test == "mcnemar"
    assert not comparison.is_better


def test_exact_match_reads_numbers_and_truth_values_written_as_text():
    match = dspex.exact_match
    assert match(dspex.Example(n="42", ok="True"), dspex.Prediction(n=42, ok=True)) == 1.0
    assert match(dspex.Example(n=" x "), dspex.Prediction(n="x", reason="free")) == 1.0
    assert match(dspex.Example(n="41"), dspex.Prediction(n=42)) == 0.0


def test_repeats_are_rows_of_their_own_and_count_as_one_example():
    rows = dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(30)]
    )
    program, model = dspex.Predict("question -> answer"), SimulatedModel(seed=5)
    with dspex.context(model=model):
        report = run(aevaluate(program, rows, dspex.exact_match, repeats=4))
        once = run(aevaluate(program, rows, dspex.exact_match))
    assert [(row.index, row.repeat) for row in report.rows] == [
        (n, k) for n in range(30) for k in range(4)
    ]
    assert [row.score for row in report.rows if row.repeat == 0] == [row.score for row in once.rows]
    assert (report.repeats, report.scored, once.repeats) == (4, 120, 1)
    assert report.to_dict()["dataset"]["rows"] == 30
    means = report.by_example()
    assert report.mean == pytest.approx(sum(means.values()) / 30)
    assert set(means.values()) > {0.25, 0.5}
    assert 0.2 < report.unsteadiness() < 0.6
    assert math.isnan(once.unsteadiness())
    # as wide as 30 examples allow: 120 runs that were taken for independent would say less than
    # half of it
    low, high = report.interval().low, report.interval().high
    assert high - low > 0.11
    comparison = dspex.compare(report, once)
    assert (comparison.pairs, comparison.test) == (30, "permutation")
    json.dumps(report.to_dict(), allow_nan=False)
    names = [head.text for head in read_html(report._repr_html_()).all("th")]
    assert "exact_match" in names


def test_repeats_and_concurrency_are_at_least_one(rulebook):
    for flags in ({"repeats": 0}, {"concurrency": 0}):
        with (
            dspex.context(model=rulebook(_echo)),
            pytest.raises(DefinitionError, match="takes a whole number from 1, not 0"),
        ):
            run(aevaluate(dspex.Predict(Sort), ROWS, dspex.exact_match, **flags))


def test_dataset_without_rows_is_said_to_have_none():
    with pytest.raises(DefinitionError, match="has no rows, so there is nothing to evaluate"):
        run(aevaluate(dspex.Predict(Sort), ROWS[:0], dspex.exact_match))


class Invoice(BaseModel):
    total: int
    lines: list[str] = []


class Colour(enum.Enum):
    RED = "red"


class Read(dspex.Signature):
    """Read the invoice."""

    picture: Image
    invoice: Invoice = dspex.Output()


class Reader(dspex.Module):
    """Looks at the picture itself, and asks the model about its address.

    Prompts hold no pictures.
    """

    signature = Read

    def __init__(self) -> None:
        self.ask = dspex.Predict(
            dspex.Signature("address: str -> old").append("invoice", Invoice).remove("old")
        )

    async def forward(self, picture: Image) -> dict[str, Invoice]:
        return {"invoice": (await self.ask.acall(address=picture.url)).invoice}


def test_rows_may_hold_pictures_and_models_and_files_what_models_are_made_of(rulebook):
    reply = {"invoice": {"total": 3, "lines": ["a"]}}
    pictures = [Image(url=f"http://example.org/{n}.png") for n in range(4)]
    typed = [
        {"picture": picture, "invoice": Invoice(total=n, lines=["a"])}
        for n, picture in enumerate(pictures)
    ]
    examples = [
        {"picture": picture, "invoice": {"total": n, "lines": ["a"]}}
        for n, picture in enumerate(pictures)
    ]
    reports = []
    with dspex.context(model=rulebook(lambda _: json.dumps(reply))):
        for rows in (typed, examples):
            data = dspex.Dataset.from_rows(rows)
            reports.append(run(aevaluate(Reader(), data, dspex.exact_match)))
    assert [[row.score for row in report.rows] for report in reports] == [[0, 0, 0, 1]] * 2
    assert reports[0].checksum == reports[1].checksum
    first = reports[0].to_dict()["rows"][0]
    assert first["example"]["invoice"] == {"total": 0, "lines": ["a"]}
    assert first["example"]["picture"]["url"] == pictures[0].url


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (3, "3", True),
        ("3", 3, True),
        (True, "true", True),
        ("red", Colour.RED, True),
        (Colour.RED, "red", True),
        ((1, 2), [1, 2], True),
        (Invoice(total=1), {"total": 1, "lines": []}, True),
        (Invoice(total=1), {"total": 1}, False),
        (3, "three", False),
        ("3.5", 3, False),
        (None, "", False),
    ],
)
def test_exact_match_compares_what_values_mean(expected, actual, same):
    example, prediction = dspex.Example({"answer": expected}), Prediction({"answer": actual})
    assert dspex.exact_match(example, prediction) == float(same)


def test_a_value_without_a_json_form_is_refused_before_any_call(rulebook):
    model = rulebook(_echo)
    rows = dspex.Dataset.from_rows(
        [{"text": "a1", "label": "a"}, {"text": "a2", "label": object()}]
    )
    with (
        dspex.context(model=model),
        pytest.raises(
            DefinitionError,
            match=r"row 1 of 'dataset': the value of 'label' .*object has no JSON form",
        ),
    ):
        run(aevaluate(dspex.Predict(Sort), rows, dspex.exact_match))
    assert not model.requests


def test_a_cancellation_that_leaks_out_of_a_module_is_a_failed_row_and_no_missing_one():
    class Leaking(dspex.Module):
        signature = "text -> label"

        async def forward(self, text):
            if text == "boom":
                raise asyncio.CancelledError
            return {"label": text[0]}

    report = run(aevaluate(Leaking(), ROWS, dspex.exact_match, concurrency=1))
    assert (len(report.rows), report.scored, report.failed) == (len(ROWS), 4, 1)
    assert (report.rows[3].error or "").startswith("CancelledError")


async def test_an_evaluation_that_is_cancelled_ends():
    class Waiting(dspex.Module):
        signature = "text -> label"

        async def forward(self, text):
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    task = asyncio.create_task(aevaluate(Waiting(), ROWS, dspex.exact_match))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_is_no_program_is_said(rulebook):
    for value in ("question -> answer", dspex.Signature("question -> answer"), None):
        with pytest.raises(DefinitionError, match="`program` of aevaluate takes a Module"):
            run(aevaluate(value, ROWS, dspex.exact_match))
