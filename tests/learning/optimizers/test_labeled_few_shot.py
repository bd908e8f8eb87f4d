import json
from collections import Counter
from typing import Literal

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.learning.optimizers import Task
from dspex.sync import run
from dspex.telemetry import Collecting


class Sort(dspex.Signature):
    """Sort the text."""

    text: str
    label: Literal["a", "b", "c"] = dspex.Output()


TRAIN = dspex.Dataset.from_rows(
    [{"text": f"{c}{n}", "label": c, "note": "x"} for c in "abc" for n in range(4)]
)


def _candidates(optimizer, seed=0, train=TRAIN):
    proposer = optimizer.start(
        Task(program=dspex.Predict(Sort).to_program(), train=train, seed=seed)
    )
    return list(proposer.ask(100))


def test_demonstrations_come_in_rounds_over_the_classes():
    for candidate in _candidates(dspex.LabeledFewShot(per_class=3, candidates=4)):
        labels = [demo["label"] for demo in candidate.assignment["self.demos"]]
        assert labels[:3] == labels[3:6] == labels[6:]
        assert Counter(labels) == {"a": 3, "b": 3, "c": 3}
        assert {TRAIN[index]["text"] for index in candidate.shown} == {
            demo["text"] for demo in candidate.assignment["self.demos"]
        }
        assert all(set(demo) == {"text", "label"} for demo in candidate.assignment["self.demos"])


def test_same_seed_proposes_the_same_and_sets_differ():
    few = dspex.LabeledFewShot(k=4, candidates=6)
    assert _candidates(few) == _candidates(few)
    assert _candidates(few) != _candidates(few, seed=1)
    assert len({str(candidate.assignment) for candidate in _candidates(few)}) == 6


def test_demonstrations_that_leave_no_row_to_score_are_refused():
    with pytest.raises(DefinitionError, match="leave none to score on"):
        _candidates(dspex.LabeledFewShot(per_class=4))


@pytest.mark.parametrize(("count", "demonstrations"), [(1, 1), (12, 6), (20, 10), (60, 16)])
def test_by_default_at_most_half_of_the_rows_are_shown_and_at_most_16(count, demonstrations):
    rows = [{"text": f"t{n}", "label": "abc"[n % 3]} for n in range(count)]
    few, train = dspex.LabeledFewShot(), dspex.Dataset.from_rows(rows)
    task = Task(program=dspex.Predict(Sort).to_program(), train=train, seed=0)
    assert few.additions(task).demonstrations == demonstrations
    if count > 1:
        assert {len(each.shown) for each in _candidates(few, train=train)} == {demonstrations}


def test_rows_without_the_outputs_are_refused():
    with pytest.raises(DefinitionError, match="takes rows of text"):
        _candidates(
            dspex.LabeledFewShot(k=1), train=dspex.Dataset.from_rows([{"text": "a"}, {"text": "b"}])
        )


def _shows_c0(request):
    """Right only where the demonstrations show c0.

    It must never be asked about a text that it is shown.
    """
    demos = [message.content for message in request.messages[1:-1]]
    prompt = request.messages[-1].content
    assert prompt not in demos
    text = prompt.rpartition("\n")[2]
    is_good = any(message.endswith("\nc0") for message in demos)
    return json.dumps({"label": text[0] if is_good else "a"})


def test_best_candidate_wins_and_progress_is_told(rulebook):
    trials, observer = [], Collecting()
    program = dspex.Predict(Sort)
    with dspex.context(model=rulebook(_shows_c0), observer=observer):
        outcome = run(
            dspex.aoptimize(
                program,
                dspex.LabeledFewShot(per_class=1, candidates=12),
                train=TRAIN,
                metric=dspex.exact_match,
                search=dspex.Search(on_trial=trials.append, rows=6),
            )
        )
    first = next(trial for trial in outcome.trials if trial.score == 1.0 and trial.number)
    assert outcome.best == first
    assert outcome.program.demos == first.candidate.assignment["self.demos"]
    assert not program.demos
    assert [trial.number for trial in trials] == list(range(len(outcome.trials)))
    progress = [event for event in observer.events if event.name == "progress"]
    assert len(progress) == len(outcome.trials)
    assert progress[-1].attributes["best"] == 1.0
    assert progress[-1].attributes["calls"] == 6 * len(outcome.trials)
    assert progress[-1].attributes["best_trial"] == outcome.best.number
    assert progress[-1].attributes["front"] == [
        trial.number for trial in outcome.front("exact_match", "-tokens")
    ]
    assert f"best 1.000 (trial {outcome.best.number})" in progress[-1].message
    assert [row["score"] for row in outcome.table()] == [trial.score for trial in outcome.trials]


def test_search_where_nothing_could_be_scored_is_an_error(rulebook):
    with (
        dspex.context(model=rulebook(lambda request: "no json")),
        pytest.raises(DefinitionError, match="first error"),
    ):
        run(
            dspex.aoptimize(
                dspex.Predict(Sort),
                dspex.LabeledFewShot(k=2, candidates=1),
                train=TRAIN,
                metric=dspex.exact_match,
            )
        )


def test_program_as_data_is_improved_as_data(rulebook):
    with dspex.context(model=rulebook(_shows_c0)):
        outcome = run(
            dspex.aoptimize(
                dspex.Predict(Sort).to_program(),
                dspex.LabeledFewShot(per_class=1, candidates=12),
                train=TRAIN,
                metric=dspex.exact_match,
            )
        )
    assert isinstance(outcome.program, dspex.Program)
    assert outcome.program.assignment["self.demos"]
