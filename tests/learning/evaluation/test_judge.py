"""A program as judge: a metric that calls a model, and that no search changes."""

import asyncio
import json
from typing import Any

import pytest

import dspex
from dspex.errors import ConfigurationError, DefinitionError
from dspex.evaluation import Judge
from dspex.execution.clients import Request, Response
from dspex.execution.modules import build
from dspex.language.programs import Program
from dspex.learning.evaluation.export import to_csv, to_html, worst_rows
from dspex.sync import run
from dspex.testing import ScriptedModel

ROWS = dspex.Dataset.from_rows(
    [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(24)]
)
PROGRAM = dspex.Predict("question -> answer")
STRICT = "Judge the outputs of a program by the criterion."


def _laid_out(**fields: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def _answer(request: Request) -> str:
    """A judge that is strict as instructed, and would be lenient with any other instruction."""
    system = request.messages[0].content
    if "score" in system:
        return _laid_out(
            reason="so", score=0.2 if STRICT in system and request.temperature is None else 1.0
        )
    return _laid_out(description="rows", instruction="Be lenient.", answer="?")


def _judging(**outputs: object) -> ScriptedModel:
    return ScriptedModel(_laid_out(**outputs))


def test_a_judge_is_a_metric_with_a_reason_on_each_row() -> None:
    with dspex.context(model=ScriptedModel(_answer)):
        report = dspex.evaluate(
            PROGRAM, ROWS[:3], {"exact_match": dspex.exact_match, "right": Judge("is right")}
        )
    assert report.mean == 0.0
    assert report.mean_of("right") == pytest.approx(0.2)
    assert [dict(row.reasons) for row in report.rows] == [{"right": "so"}] * 3
    assert report.rows[0].outputs == {"answer": "?"}


def test_a_judge_alone_goes_by_its_name() -> None:
    with dspex.context(model=ScriptedModel(_answer)):
        report = dspex.evaluate(PROGRAM, ROWS[:1], Judge("is right").to_program("right"))
    assert report.metrics == ("right",)


def test_a_judge_sees_task_inputs_outputs_and_criterion() -> None:
    judge = _judging(reason="so", score=1)
    program = dspex.Predict(dspex.Signature("question -> answer", "Answer briefly."))
    with dspex.context(model=ScriptedModel(_answer)):
        dspex.evaluate(program, ROWS[:1], Judge("is right", model=judge))
    (request,) = judge.requests
    text = "\n".join(message.text for message in request.messages)
    for part in ("The criterion: is right", "Answer briefly.", "question 0", "{'answer': '?'}"):
        assert part in text
    assert "answer 0" not in text  # the expected answer is not shown


def test_any_program_with_a_number_or_a_bool_is_a_judge() -> None:
    judge = _judging(verdict="Too short.", is_right="false")
    custom = dspex.Predict(
        "question, answer, expected -> verdict, is_right: bool", model=judge, temperature=0.0
    )
    with dspex.context(model=ScriptedModel(_answer)):
        report = dspex.evaluate(PROGRAM, ROWS[:1], {"custom": custom})
    assert report.rows[0].scores == {"custom": 0.0}
    assert report.rows[0].reasons == {"custom": "Too short."}
    text = judge.requests[0].messages[-1].content
    assert "question 0" in text
    assert "[[ ## answer ## ]]\n?" in text
    assert "{'answer': 'answer 0'}" in text


@pytest.mark.parametrize(
    ("recall", "precision", "expected"), [(0.5, 1.0, 2 / 3), (1.0, 1.0, 1.0), (0.0, 1.0, 0.0)]
)
def test_the_score_of_semantic_f1_is_the_mean_of_both_parts(
    recall: float, precision: float, expected: float
) -> None:
    parts = {"reason": "so", "recall": recall, "precision": precision}
    reply = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in parts.items())
    judge = dspex.evaluation.SemanticF1(model=ScriptedModel(reply))
    rows = dspex.Dataset.from_rows([{"question": "q", "answer": "a"}])
    with dspex.context(model=ScriptedModel("[[ ## answer ## ]]\nb")):
        report = dspex.evaluate(dspex.Predict("question -> answer"), rows, judge)
    assert report.mean == pytest.approx(expected)


def test_groundedness_reads_the_passages_of_the_answer() -> None:
    model = ScriptedModel("[[ ## reason ## ]]\nso\n\n[[ ## score ## ]]\n0.5")
    judge = dspex.evaluation.Groundedness(model=model)
    rows = dspex.Dataset.from_rows([{"question": "q", "passages": "lamps are blue"}])
    with dspex.context(model=ScriptedModel("[[ ## answer ## ]]\nblue")):
        report = dspex.evaluate(dspex.Predict("question, passages -> answer"), rows, judge)
    assert report.mean == 0.5
    assert "lamps are blue" in str(model.requests[0].messages[-1].content)


@pytest.mark.parametrize(
    ("signature", "score", "reason"),
    [
        ("outputs -> score: float, certainty: float, reason", "score", "reason"),
        ("outputs -> points: Literal[1, 2, 3], because", "points", "because"),
        ("outputs -> polite: bool", "polite", None),
        ("outputs -> recall: float, precision: float", "precision recall", None),
        ("outputs -> note, reason, points: int[ge=1, le=5]", "points", "reason"),
    ],
)
def test_score_and_reason_are_found_among_the_outputs(
    signature: str, score: str, reason: str | None
) -> None:
    from dspex.learning.evaluation.judge import judge_outputs

    assert judge_outputs(dspex.Signature(signature), "j") == (tuple(score.split()), reason)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("outputs -> reason", "'j' needs one output that is a number or a bool.*has none.*reason"),
        ("outputs -> a: int, b: bool", r"has several \(a, b\): name one `score`"),
        ("outputs -> score: float | none, reason", "has none"),
        ("tone, outputs -> score: float", "reads 'tone', which is neither.*answer, question"),
    ],
)
def test_a_program_that_cannot_judge_is_refused_before_anything_runs(
    signature: str, message: str
) -> None:
    model = ScriptedModel(_answer)
    with dspex.context(model=model), pytest.raises(DefinitionError, match=message):
        dspex.evaluate(PROGRAM, ROWS[:1], {"j": dspex.Predict(signature)})
    assert not model.requests


def test_usage_and_time_of_a_row_are_those_of_the_program() -> None:
    judge = Judge("is right", model=_judging(reason="so", score=1))
    with dspex.context(model=ScriptedModel(_answer)):
        report = dspex.evaluate(PROGRAM, ROWS[:2], {"right": judge})
        alone = dspex.evaluate(PROGRAM, ROWS[:2], dspex.exact_match)
    assert report.usage == alone.usage
    assert report.judge_usage.calls == 2
    assert report.to_dict()["judge_usage"]["calls"] == 2
    assert report.to_dict()["rows"][0]["reasons"] == {"right": "so"}


def test_a_judge_that_fails_is_a_failed_row_and_never_a_zero() -> None:
    replies = iter(["?", "?", _laid_out(reason="so", score=1)])
    judge = Judge("is right", model=ScriptedModel(lambda _: next(replies)))
    with dspex.context(model=ScriptedModel(_answer)):
        report = dspex.evaluate(
            PROGRAM, ROWS[:2], {"right": judge, "exact": dspex.exact_match}, concurrency=1
        )
    first, second = report.rows
    assert first.error is not None
    assert first.error.startswith("the judge 'right' failed: ")
    assert (first.scores, first.outputs) == ({}, {"answer": "?"})
    assert (second.scores, report.mean) == ({"right": 1.0, "exact": 0.0}, 1.0)
    assert (report.scored, report.failed) == (1, 1)


def test_the_model_of_a_judge_is_opened_before_anything_runs() -> None:
    from dspex.learning.evaluation.judge import JudgeMetric

    model = ScriptedModel(_answer)
    judge = JudgeMetric.of(Judge("is right"), name="right", model="nobody/nothing")
    with dspex.context(model=model), pytest.raises(ConfigurationError, match="nobody"):
        dspex.evaluate(PROGRAM, ROWS[:1], {"right": judge})
    assert not model.requests


class HangingModel(ScriptedModel):
    """Never replies."""

    def __init__(self) -> None:
        super().__init__("")
        self.call = asyncio.Event()

    async def complete(self, request: Request) -> Response:
        """Wait."""
        self.call.set()
        await asyncio.Event().wait()
        return await super().complete(request)


async def test_an_evaluation_is_cancelled_within_a_judge() -> None:
    model = HangingModel()
    judge = Judge("is right", model=model)
    with dspex.context(model=ScriptedModel(_answer)):
        task = asyncio.create_task(dspex.aevaluate(PROGRAM, ROWS[:1], {"right": judge}))
        await model.call.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_reports_show_reasons_and_the_cost_of_judges() -> None:
    judge = Judge("is right", model=_judging(reason="<b>Curt.", score=0.25))
    with dspex.context(model=ScriptedModel(_answer)):
        report = dspex.evaluate(PROGRAM, ROWS[:1], {"right": judge})
    page = to_html(report)
    assert "&lt;b&gt;Curt." in page
    assert "scripted, 1 call, cost $0.0000" in page
    assert "reason.right" in to_csv(report)
    assert worst_rows(report) == [
        "row 0: right 0.25; answer '?', expected 'answer 0'; right: '<b>Curt.'"
    ]


def test_a_search_improves_the_program_and_never_the_judge() -> None:
    pytest.importorskip("optuna")
    bootstrap = dspex.BootstrapFewShot(threshold=0.5, rounds=2)
    recipe = dspex.Joint(
        trials=6, cohort=3, first_rows=4, sets=2, instructions=3, bootstrap=bootstrap
    )
    with dspex.context(model=ScriptedModel(_answer)):
        outcome = run(
            dspex.aoptimize(
                PROGRAM,
                recipe,
                train=ROWS[:12],
                metric={"right": Judge("is right")},
                search=dspex.Search(test=ROWS[12:]),
            )
        )
    assert {row.score for trial in outcome.trials for row in trial.report.rows} == {0.2}
    assert outcome.verdict is not None
    assert not outcome.verdict.is_better
    assert isinstance(outcome.program, dspex.Predict)
    report = outcome.best.report
    assert report.judge_usage.calls == report.usage.calls == len(report.rows)
    assert outcome.best.figures["tokens"] == report.usage.total_tokens / report.scored


def test_the_budget_of_a_search_includes_the_judge() -> None:
    budget = dspex.Budget(calls=12)
    with dspex.context(model=ScriptedModel(_answer)):
        outcome = dspex.optimize(
            PROGRAM,
            dspex.LabeledFewShot(k=2, candidates=3),
            train=ROWS[:8],
            metric={"right": Judge("is right")},
            search=dspex.Search(budget=budget, rows=3, insists=True),
        )
    assert outcome.stopped is not None
    assert "budget" in outcome.stopped
    assert outcome.spent.calls == 12


@pytest.mark.filterwarnings("ignore:.*rows:UserWarning")
def test_a_journal_of_another_judge_is_refused(tmp_path: Any) -> None:
    def search(criterion: str) -> object:
        journal = dspex.optimizers.JsonlJournal(tmp_path / "journal")
        with dspex.context(model=ScriptedModel(_answer)):
            return dspex.optimize(
                PROGRAM,
                dspex.LabeledFewShot(k=1, candidates=1),
                train=ROWS[:4],
                metric={"right": Judge(criterion)},
                search=dspex.Search(journal=journal),
            )

    search("is right")
    search("is right")
    with pytest.raises(dspex.errors.ConflictError, match="the metric 'right' changed"):
        search("is polite")


def test_a_judge_is_stored_as_a_program_and_built_again() -> None:
    judge = Judge("is right", model="http://127.0.0.1:1/v1#m")
    program = judge.to_program("right")
    again = build(Program.from_dict(json.loads(program.to_json())))
    assert type(again) is dspex.Predict
    assert again.to_program("right") == program
    assert "The criterion: is right" in program.signature.instructions
    assert list(program.signature.output_fields) == ["reason", "score"]


def test_a_judge_is_optimized_like_any_program() -> None:
    assert list(Judge("is right").variables()) == ["self.instructions", "self.demos"]
    better = Judge("is right").assign({"self.instructions": "Judge harshly."})
    assert better.to_program("right").signature.instructions == "Judge harshly."


def test_the_runs_of_a_judge_are_recorded_as_its_own(tmp_path: Any) -> None:
    with dspex.open(tmp_path) as store, dspex.context(model=ScriptedModel(_answer)):
        judge = Judge("is right")
        assert judge(task="t", inputs="{}", outputs="{}").score == 0.2
        (execution,) = store.executions()
    assert execution.outputs == {"reason": "so", "score": 0.2}
