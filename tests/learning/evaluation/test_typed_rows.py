"""Rows of text, as csv files hold them, are read through the signature."""

import json
from pathlib import Path
from typing import Any

import dspex
from dspex.evaluation import Dataset, evaluate
from dspex.execution.adapters import read_row
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.context import RunContext
from dspex.language.signatures import Signature
from dspex.learning.optimizers import Candidate, LabeledFewShot
from dspex.learning.optimizers.labeled_few_shot import demonstration
from dspex.learning.optimizers.proposer import Task
from dspex.testing import ScriptedModel

TRIAGE = (
    "text, tags: list[str] -> urgent: bool, count: int, score: float?, team: Literal['a', 'b'], "
    "who: P{name: str}"
)
ROWS = [
    {
        "text": "5",
        "tags": '["x", "y"]',
        "urgent": "true",
        "count": "42",
        "score": "",
        "team": "a",
        "who": '{"name": "n"}',
    },
    {
        "text": "b",
        "tags": "[]",
        "urgent": "False",
        "count": "7",
        "score": "0.5",
        "team": "b",
        "who": '{"name": "m"}',
    },
]
TYPED = [
    {
        "text": "5",
        "tags": ["x", "y"],
        "urgent": True,
        "count": 42,
        "score": None,
        "team": "a",
        "who": {"name": "n"},
    },
    {
        "text": "b",
        "tags": [],
        "urgent": False,
        "count": 7,
        "score": 0.5,
        "team": "b",
        "who": {"name": "m"},
    },
]


def test_a_text_is_read_as_the_type_of_its_field() -> None:
    signature = Signature(TRIAGE)
    assert [read_row(signature, row) for row in ROWS] == TYPED
    assert [read_row(signature, row) for row in TYPED] == TYPED
    assert list(Dataset.from_rows(ROWS).typed(TRIAGE)) == [dspex.Example(row) for row in TYPED]


def test_a_text_that_is_no_value_of_its_field_and_a_field_that_is_not_there_stay() -> None:
    signature = Signature("a: int, doc: Document, free: any -> b: bool, e: embedding[dimensions=2]")
    row = {"a": "n/a", "doc": "a text", "free": "5", "b": "maybe", "e": "[0.5, 1]", "split": "1"}
    assert read_row(signature, row) == {**row, "e": [0.5, 1.0]}


async def test_demonstrations_from_a_csv_show_their_types(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,urgent,count\nhelp,true,42\n")
    data = Dataset.from_file(file)
    module = dspex.Predict("text -> urgent: bool, count: int", demos=data)
    assert module.demos == [{"text": "help", "urgent": True, "count": 42}]
    model = ScriptedModel('{"urgent": false, "count": 1}')
    await module.acall(RunContext(model=model, adapter=ADAPTERS["json"]), text="x")
    text = next(message for message in model.requests[0].messages if message.role == "assistant")
    assert json.loads(text.content) == {"urgent": True, "count": 42}
    stored = module.to_program()
    assert stored == type(stored).from_dict(json.loads(stored.to_json()))


def test_an_evaluation_gives_typed_rows_to_programs_and_metrics() -> None:
    values: list[Any] = []

    def right(example: dspex.Example, prediction: dspex.Prediction) -> float:
        values.append(example["urgent"])
        return float(example["urgent"] is prediction["urgent"])

    class Triage(dspex.Module):
        signature = "text, tags: list[str] -> urgent: bool"

        async def forward(self, text: str, tags: list[str]) -> dict[str, bool]:
            return {"urgent": len(tags) == 2}

    rows = Dataset.from_rows(ROWS)
    report = evaluate(Triage(), rows, right)
    assert (report.mean, report.failed, sorted(values)) == (1.0, 0, [False, True])
    assert report.checksum == rows.checksum  # a report is compared by the rows as they were given


def test_labelled_demonstrations_of_a_search_are_typed() -> None:
    module = dspex.Predict("text, tags: list[str] -> urgent: bool, count: int")
    task = Task(program=module.to_program(), train=Dataset.from_rows(ROWS * 8), seed=0)
    assert demonstration(task, task.train[0]) == {
        "text": "5",
        "tags": ["x", "y"],
        "urgent": True,
        "count": 42,
    }
    (candidate,) = LabeledFewShot(k=2, candidates=1).start(task).ask(1)
    assert isinstance(candidate, Candidate)
    assert all(
        type(demo["urgent"]) is bool for demos in candidate.assignment.values() for demo in demos
    )
