"""A report, an outcome and what notebooks show, large enough to look at."""

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

import dspex
from dspex.error_text import CodeFrame
from dspex.language.records import Usage
from dspex.learning.evaluation import Report, Row
from dspex.learning.evaluation.rag import RagReport
from dspex.learning.optimizers import Outcome
from dspex.learning.optimizers.team_worth import TeamWorth, Worth
from dspex.testing import SimulatedModel

FRAME = CodeFrame(file="app.py", line=12, function="pay", code="return RATES[text]['rate']")
LABELS = ("billing", "refund", "technical", "account", "shipping")
MESSAGES = (
    "My card was charged twice for order {n}, can you look into it?",
    "I would like my money back for item {n}.",
    "The app crashes when I open page {n}\nand then shows error 0x{n}.",
    "How do I change the e-mail address of account {n}?",
    "Where is parcel {n}? It was due on Monday, and I need it before the weekend. " * 6,
)


def sample_report(count: int = 60) -> Report:
    """Return rows that are right, wrong, failed, hostile and long."""
    return Report(
        rows=tuple(map(_row, range(count))),
        metrics=("right", "overlap"),
        dataset="messages",
        checksum="9f86d081884c7d659a2f",
        seconds=41.2,
        started_at=datetime(2026, 3, 14, 9, 26, tzinfo=UTC),
    )


def _row(n: int) -> Row:
    label = LABELS[n % 5]
    answered = LABELS[n * 3 % 4] if n % 4 == 3 else label
    text = "<script>alert(1)</script> \u202e" if n == 9 else MESSAGES[n % 5].format(n=1000 + n)
    reply = f"Thank you. We will look into the {label} question by Friday."
    example = dspex.Example(message=text, intent=label, reply=reply)
    if n % 20 == 7:
        error = (
            "ModelError: 503 after 3 attempts" if n % 3 else "KeyError: 'rate' (app.py:12 in pay)"
        )
        frames = () if n % 3 else (FRAME,)
        return Row(index=n, example=example, error=error, frames=frames, seconds=9.1)
    usage = Usage(input_tokens=240, output_tokens=30, calls=1, cost_usd=0.0001).of_model("m/small")
    return Row(
        index=n,
        example=example,
        outputs={"intent": answered, "reply": reply.replace(label, answered)},
        scores={"right": float(answered == label), "overlap": 0.5 + n % 7 / 20},
        seconds=0.4 + n % 11 / 10,
        usage=usage,
    )


def _with_scores(names: tuple[str, str]) -> Report:
    """Return the sample report with other names of its metrics."""
    report = sample_report()
    rows = [
        msgspec.structs.replace(row, scores=dict(zip(names, row.scores.values(), strict=False)))
        for row in report.rows
    ]
    return replace(report, rows=tuple(rows), metrics=names)


def questions(count: int, first: int = 0) -> dspex.Dataset:
    """Return rows whose answers the simulated model finds more often the better it is asked."""
    rows = [
        {"question": f"question {n}", "answer": f"answer {n}"} for n in range(first, first + count)
    ]
    return dspex.Dataset.from_rows(rows, name="questions")


def sample_outcome() -> Outcome[dspex.Predict]:
    """Return a finished search with a verdict on held-out rows."""
    program = dspex.Predict("question -> answer", temperature=dspex.Float(0, 1.5))
    with dspex.context(model=SimulatedModel(seed=1)), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return dspex.optimize(
            program,
            dspex.Joint(trials=12, cohort=4, first_rows=6),
            train=questions(40),
            metric=dspex.exact_match,
            search=dspex.Search(test=questions(60, 200)),
        )


def notebook_values() -> dict[str, Any]:
    """Return one value of each class that has a representation, by what it is."""
    outcome = sample_outcome()
    assert outcome.verdict is not None
    with dspex.context(model=SimulatedModel(seed=1)):
        prediction = outcome.program(question="question 7")
    texts = {f"page {number}": f"On page {number} is the rule {number}." for number in range(12)}
    handbook = dspex.Collection.from_texts(texts, name="handbook")
    passages = handbook.search("rule 7", 3, mode="lexical")
    return {
        "signature": dspex.Signature("question: str, urgent: bool = True -> answer", "Be <brief>."),
        "module": outcome.program,
        "prediction": prediction,
        "trace": prediction.trace,
        "dataset": questions(20),
        "report": sample_report(),
        "comparison": outcome.verdict.comparison,
        "verdict": outcome.verdict,
        "outcome": outcome,
        "front": outcome.front("exact_match", "-usd"),
        "program": outcome.program.to_program("shout"),
        "example": dspex.Example(question="question 7"),
        "passage": passages[0],
        "search": passages,
        "collection": handbook,
        "space": outcome.program.variables(),
        "usage": prediction.usage,
        "rag": RagReport(_with_scores(("answer", "retrieved")), 0.5),
        "worth": TeamWorth(
            team=sample_report(),
            single=sample_report(),
            gain=Worth(comparison=outcome.verdict.comparison, tokens=120.0),
            members={"law": Worth(comparison=outcome.verdict.comparison, tokens=-3.0)},
            needed={"sums": "it answers"},
        ),
    }
