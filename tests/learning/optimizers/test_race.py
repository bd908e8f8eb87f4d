"""A trial stops as soon as it cannot win any more, and never the one that would have won."""

import re
from dataclasses import replace

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.learning.optimizers import Candidate, JsonlJournal, Search
from dspex.sync import run
from dspex.testing import ScriptedModel

TRAIN = dspex.Dataset.from_rows([{"text": f"text {n}", "label": f"label {n}"} for n in range(40)])


class Texts:
    """Tries instructions; the number in one is how many of ten rows it gets right."""

    def __init__(self, *texts):
        self.texts = texts

    def start(self, task):
        return _Walk(list(self.texts))

    def runs(self, task, rows):
        return len(self.texts) * rows


class _Walk:
    def __init__(self, texts):
        self.texts = texts
        self.results = []

    def ask(self, count):
        if not self.texts:
            return ()
        text = self.texts.pop(0)
        return [Candidate(label=text, assignment={"self.instructions": text})]

    def tell(self, results):
        assert all(trial.candidate.is_final for trial in results)


def _answer(request):
    number = int(re.findall(r"text (\d+)", request.messages[-1].text)[0])
    system = request.messages[0].text
    share = next((n for n in range(10, -1, -1) if f"Level {n}." in system), 5)
    return "[[ ## label ## ]]\n" + (f"label {number}" if number * 7 % 10 < share else "wrong")


def _search(texts, search, model=None):
    with dspex.context(model=model or ScriptedModel(_answer)):
        return run(
            dspex.aoptimize(
                dspex.Predict("text -> label"),
                Texts(*texts),
                train=TRAIN,
                metric=dspex.exact_match,
                search=search,
            )
        )


def test_trials_that_cannot_win_stop_and_the_winner_is_the_same():
    texts = [f"Level {n}." for n in (3, 8, 1, 0, 9, 7, 2)]
    raced, whole = (_search(texts, Search(race=race)) for race in (True, False))
    assert raced.best.candidate.label == whole.best.candidate.label == "Level 9."
    assert raced.best.report.scored == 40
    assert raced.spent.calls < 0.7 * whole.spent.calls
    rows = {trial.candidate.label[:8]: len(trial.report.rows) for trial in raced.trials[1:]}
    assert rows["Level 8."] == rows["Level 9."] == 40
    assert rows["Level 1."] < 25
    label = f"Level 1., stopped after {rows['Level 1.']} of 40 rows"
    assert label in [trial.candidate.label for trial in raced.trials]
    stopped = [trial for trial in raced.trials if "stopped" in trial.candidate.label]
    assert not any(trial.candidate.is_final for trial in stopped)
    assert not any(trial in stopped for trial in raced.front("exact_match", "-tokens"))


def test_rows_of_a_stopped_trial_are_those_of_the_dataset_in_its_order():
    outcome = _search(["Level 0."], Search(race=True))
    whole, part = (trial.report.rows for trial in outcome.trials)
    texts = [row.example["text"] for row in part]
    assert texts == [row.example["text"] for row in whole if row.example["text"] in texts]
    assert [row.index for row in part] == list(range(len(texts)))
    assert len(part) < 30


def test_a_race_resumed_from_any_point_ends_as_an_undisturbed_one(tmp_path):
    texts = [f"Level {n}." for n in (3, 8, 1)]
    whole = tmp_path / "whole.jsonl"
    first = _search(texts, Search(race=True, journal=JsonlJournal(whole), concurrency=3))
    lines = whole.read_bytes().splitlines(keepends=True)
    for length in (1, 30, 60, len(lines) - 2):
        cut = tmp_path / f"cut{length}.jsonl"
        cut.write_bytes(b"".join(lines[:length]))
        model = ScriptedModel(_answer)
        again = _search(texts, Search(race=True, journal=JsonlJournal(cut), concurrency=5), model)
        assert again.table() == first.table()
        assert again.spent == first.spent


def test_scores_outside_of_0_to_1_are_never_stopped():
    search = Search(race=True)
    with dspex.context(model=ScriptedModel(_answer)):
        outcome = run(
            dspex.aoptimize(
                dspex.Predict("text -> label"),
                Texts("Level 8.", "Level 0."),
                train=TRAIN,
                metric=lambda example, prediction: 3.0 * (prediction.label != "wrong") - 1.5,
                search=search,
            )
        )
    assert [len(trial.report.rows) for trial in outcome.trials] == [40, 40, 40]


@pytest.mark.parametrize(
    ("search", "what"),
    [
        (Search(race=True, maximize="-tokens"), "the objective '-tokens'"),
        (Search(race=True, subject_to=["failed<=0.1"]), "the limit failed<=0.1"),
    ],
)
def test_a_race_for_something_else_than_one_metric_is_refused(search, what):
    with pytest.raises(DefinitionError, match=what):
        _search(["Level 8."], search)
    assert _search(["Level 8."], replace(search, race=False)).trials
