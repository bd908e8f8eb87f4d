import asyncio
import json
import math
import warnings
from itertools import islice
from typing import Literal

import pytest

import dspex
from dspex.errors import BudgetError, ConflictError, DefinitionError, RefusedError, VariableError
from dspex.execution.clients import Budget
from dspex.learning.optimizers import Candidate, Control, JsonlJournal, Search
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.limits import front, hypervolume, parse_limit
from dspex.learning.optimizers.proposer import Additions
from dspex.sync import run
from dspex.testing import ScriptedModel


class Sort(dspex.Signature):
    """Sort the text."""

    text: str
    label: Literal["a", "b", "c"] = dspex.Output()


TRAIN = dspex.Dataset.from_rows([{"text": f"{c}{n}", "label": c} for c in "abc" for n in range(4)])
TEST = dspex.Dataset.from_rows(
    [{"text": f"{c}{n}", "label": c} for c in "abc" for n in range(4, 16)]
)
FEW = dspex.LabeledFewShot(per_class=1, candidates=6)


def _text(request):
    return request.messages[-1].content.rpartition("\n")[2]


def _shows_c0(request):
    is_good = any(message.content.endswith("\nc0") for message in request.messages[1:-1])
    return json.dumps({"label": _text(request)[0] if is_good else "a"})


def _optimize(model, search, optimizer=FEW, **more):
    with dspex.context(model=model):
        return run(
            dspex.aoptimize(
                dspex.Predict(Sort),
                optimizer,
                train=TRAIN,
                metric=dspex.exact_match,
                search=search,
                **more,
            )
        )


def _facts(outcome):
    return [outcome.table(), [dict(trial.figures) for trial in outcome.trials], outcome.best.number]


def test_program_as_it_is_is_the_first_trial_and_wins_ties(rulebook):
    outcome = _optimize(
        rulebook(lambda request: json.dumps({"label": _text(request)[0]})), Search()
    )
    assert outcome.trials[0].candidate.assignment == {}
    assert outcome.best.number == 0
    assert not outcome.program.demos
    assert outcome.changes() == "no changes"
    assert outcome.conclusion.splitlines() == [
        "the unchanged program did best",
        "trial 0 ties with trials 1, 2, 3 and 3 more; it came first",
    ]


@pytest.mark.parametrize("length", [1, 7, 25, 60])
def test_search_resumed_from_any_point_ends_as_an_undisturbed_one(rulebook, tmp_path, length):
    whole = tmp_path / "whole.jsonl"
    first = rulebook(_shows_c0)
    undisturbed = _optimize(first, Search(journal=JsonlJournal(whole), concurrency=3))
    lines = whole.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:length]) + lines[length][:9])  # the kill fell into a write
    second = rulebook(_shows_c0)
    resumed = _optimize(second, Search(journal=JsonlJournal(cut), concurrency=3))
    assert resumed.table() == undisturbed.table()
    assert resumed.program.demos == undisturbed.program.demos
    answers = sum(json.loads(line)["kind"] == "answer" for line in lines[:length])
    assert len(second.requests) == len(first.requests) - answers
    assert resumed.spent == undisturbed.spent


def test_finished_search_is_repeated_without_one_call(rulebook, tmp_path):
    file = tmp_path / "j.jsonl"
    first = _optimize(rulebook(_shows_c0), Search(journal=JsonlJournal(file)))
    silent = rulebook(_shows_c0)
    again = _optimize(silent, Search(journal=JsonlJournal(file)))
    assert not silent.requests
    assert _facts(again) == _facts(first)


def test_journal_of_another_search_is_refused(rulebook, tmp_path):
    file = tmp_path / "j.jsonl"
    _optimize(rulebook(_shows_c0), Search(journal=JsonlJournal(file)))
    with pytest.raises(ConflictError, match="another search"):
        _optimize(rulebook(_shows_c0), Search(journal=JsonlJournal(file), seed=1))


def test_budget_stops_the_search_before_it_is_passed_and_keeps_what_was_found(rulebook):
    model = rulebook(_shows_c0)
    outcome = _optimize(model, Search(budget=Budget(calls=40), concurrency=4))
    assert len(model.requests) <= 40
    assert outcome.stopped.startswith("budget: the budget of 40 calls")
    assert len(outcome.trials) == 4  # the program as it is: 12 rows; each candidate: 9
    with pytest.raises(BudgetError, match="is too small for one candidate"):
        _optimize(rulebook(_shows_c0), Search(budget=Budget(calls=3)))


def test_budget_counts_what_an_earlier_life_has_spent(rulebook, tmp_path):
    file = tmp_path / "j.jsonl"
    _optimize(rulebook(_shows_c0), Search(journal=JsonlJournal(file), budget=Budget(calls=30)))
    model = rulebook(_shows_c0)
    _optimize(model, Search(journal=JsonlJournal(file), budget=Budget(calls=40)))
    assert 0 < len(model.requests) <= 10


def test_no_more_calls_are_under_way_than_allowed():
    class Counting:
        name = "counting"
        capabilities = frozenset({"constrained_decoding", "response_schema"})
        now = most = 0

        async def complete(self, request):
            self.now += 1
            self.most = max(self.most, self.now)
            for _ in range(5):
                await asyncio.sleep(0)
            self.now -= 1
            return dspex.testing.ScriptedModel("")._response(request, json.dumps({"label": "a"}))

    import dspex.testing

    model = Counting()
    outcome = _optimize(model, Search(concurrency=3, trials_at_once=4))
    assert model.most == 3
    assert [trial.number for trial in outcome.trials] == list(range(7))


def test_cancelled_search_returns_what_it_found(rulebook):
    control = Control()
    outcome = _optimize(
        rulebook(_shows_c0),
        Search(
            control=control, on_trial=lambda trial: control.cancel() if trial.number == 2 else None
        ),
    )
    assert outcome.stopped == "cancelled"
    assert len(outcome.trials) == 3


async def test_paused_search_makes_no_call_until_it_is_resumed(rulebook):
    control, model = Control(), rulebook(_shows_c0)
    with dspex.context(model=model):
        control.pause()
        work = asyncio.create_task(
            dspex.aoptimize(
                dspex.Predict(Sort),
                FEW,
                train=TRAIN,
                metric=dspex.exact_match,
                search=Search(control=control),
            )
        )
        for _ in range(50):
            await asyncio.sleep(0)
        assert not model.requests
        control.resume()
        assert len((await work).trials) == 7


def test_estimate_comes_first_and_bounds_what_is_spent(rulebook):
    estimates = []
    model = rulebook(_shows_c0)
    outcome = _optimize(
        model,
        Search(
            on_estimate=lambda estimate: estimates.append((estimate, len(model.requests))),
            test=TEST,
        ),
    )
    estimate, calls_then = estimates[0]
    assert calls_then == 3
    assert outcome.estimate == estimate
    assert outcome.spent.calls <= estimate.calls == estimate.runs == 12 + 6 * 12 + 2 * 36


def test_held_out_rows_decide_and_are_read_once(rulebook):
    model = rulebook(_shows_c0)
    outcome = _optimize(model, Search(test=TEST))
    assert outcome.verdict.is_better
    assert outcome.program.demos
    assert "significantly better on 36 held-out rows" in str(outcome.verdict)
    texts = [_text(request) for request in model.requests]
    held_out = {str(row["text"]) for row in TEST}
    first = next(number for number, text in enumerate(texts) if text in held_out)
    assert sorted(texts[first:]) == sorted([*held_out, *held_out])


def _lucky(request):
    """Any demonstrations help on training rows (numbers up to 3), and nothing helps beyond."""
    text = _text(request)
    is_learned = len(request.messages) > 2 and int(text[1:]) < 4
    return json.dumps({"label": text[0] if is_learned else "a"})


def test_winner_that_does_not_generalize_leaves_the_program_as_it_was(rulebook):
    outcome = _optimize(rulebook(_lucky), Search(test=TEST))
    assert outcome.best.score == 1.0
    assert not outcome.verdict.is_better
    assert "no significant improvement" in str(outcome.verdict)
    assert not outcome.program.demos
    insisted = _optimize(rulebook(_lucky), Search(test=TEST, insists=True))
    assert insisted.program.demos
    assert '+{"text"' in insisted.changes().replace("  +", "+")


def test_doubtful_data_is_warned_about(rulebook):
    with pytest.warns(UserWarning, match="the training rows contain 4 rows of the test split"):
        outcome = _optimize(
            rulebook(_shows_c0),
            Search(test=dspex.Dataset.from_rows([*TEST, *TRAIN[:4]]), on_trial=None),
        )
    assert len(outcome.warnings) == 1
    with (
        dspex.context(model=rulebook(lambda request: json.dumps({"label": "a"}))),
        pytest.warns(UserWarning, match="the same 'label'"),
    ):
        run(
            dspex.aoptimize(
                dspex.Predict(Sort),
                dspex.LabeledFewShot(k=1),
                train=dspex.Dataset.from_rows([{"text": f"a{n}", "label": "a"} for n in range(6)]),
                metric=dspex.exact_match,
            )
        )


def test_model_that_refuses_is_an_error_that_says_so_and_is_kept_in_the_journal(rulebook):
    def refuse(request):
        raise RefusedError("no such model")

    journal = MemoryJournal()
    with pytest.raises(DefinitionError, match="RefusedError: no such model"):
        _optimize(rulebook(refuse), Search(journal=journal))
    silent = rulebook(refuse)
    with pytest.raises(DefinitionError, match="RefusedError: no such model"):
        _optimize(silent, Search(journal=journal))
    assert not silent.requests


def test_broken_metric_ends_the_search(rulebook):
    def broken(example, prediction):
        return 1 / 0

    with (
        dspex.context(model=rulebook(_shows_c0)),
        pytest.raises(DefinitionError, match="'broken' raised"),
    ):
        run(dspex.aoptimize(dspex.Predict(Sort), FEW, train=TRAIN, metric=broken))


class _Fixed:
    """An optimizer that tries what it is given."""

    def __init__(self, *candidates):
        self._candidates = list(candidates)

    def start(self, task):
        return self

    def runs(self, task, rows):
        return len(self._candidates) * rows

    def ask(self, count):
        batch, self._candidates = self._candidates[:count], self._candidates[count:]
        return batch

    def tell(self, results):
        pass


def test_limits_come_before_the_objective_and_trials_can_be_picked_afterwards(rulebook):
    # the second shows c0: right, and dear
    demos = [[dict(row) for row in TRAIN[:n]] for n in (1, 9)]
    metrics = {"right": dspex.exact_match, "short": lambda example, prediction: 1.0}

    def search(**more):
        model = rulebook(_shows_c0)
        with dspex.context(model=model):
            return run(
                dspex.aoptimize(
                    dspex.Predict(Sort),
                    _Fixed(
                        *(Candidate(label=str(len(d)), assignment={"self.demos": d}) for d in demos)
                    ),
                    train=TRAIN,
                    metric=metrics,
                    search=Search(**more),
                )
            )

    assert search().best.candidate.label == "9"
    with pytest.warns(UserWarning, match="'right' is minimized, but this optimizer maximizes it"):
        assert search(maximize="-right").best.number == 0
    assert search(subject_to=["right<0.5"]).best.number == 0
    outcome = search()
    assert [trial.candidate.label for trial in outcome.front("right", "short")] == ["9"]
    assert outcome.pick("right>=0.9", maximize="-tokens").candidate.label == "9"
    with pytest.raises(DefinitionError, match="within right>=2"):
        outcome.pick("right>=2", maximize="-tokens")
    with pytest.raises(DefinitionError, match="Did you mean 'right'"):
        outcome.pick(maximize="rigt")


def test_limit_reads_units_and_refuses_nonsense():
    assert str(parse_limit("p95 < 2000ms")) == "p95<2"
    assert parse_limit("usd<=$0.001").holds({"usd": 0.001})
    assert not parse_limit("usd<1").holds({"usd": math.nan})
    with pytest.raises(DefinitionError, match="is not a limit"):
        parse_limit("fast")


def test_front_and_hypervolume_of_known_points(rulebook):
    class Known:
        def __init__(self, number, x, y):
            self.number, self.figures = number, {"x": x, "y": y}

    trials = [Known(0, 1, 3), Known(1, 2, 2), Known(2, 1, 1), Known(3, 3, 1), Known(4, 2, 2)]
    assert [trial.number for trial in front(trials, ["x", "y"])] == [3, 1, 0]
    assert hypervolume([(1, 3), (2, 2), (1, 1), (3, 1)], (0, 0)) == 6


def test_an_unsatisfiable_space_ends_the_search_and_says_which_constraint(rulebook):
    pytest.importorskip("optuna")
    program = dspex.Predict(Sort, temperature=dspex.Float(0, 1)).with_variables(
        dspex.Constraint(name="never", test=dspex.var("self.temperature") > 2)
    )
    with dspex.context(model=rulebook(_shows_c0)), pytest.raises(VariableError, match="'never'"):
        run(
            dspex.aoptimize(
                program,
                dspex.Joint(trials=4, instructions=1, sets=0),
                train=TRAIN,
                metric=dspex.exact_match,
            )
        )


def test_empty_splits_are_refused_before_any_call(rulebook):
    model, empty = rulebook(_shows_c0), TRAIN[:0]
    for search in (Search(test=empty), Search(validation=empty)):
        with pytest.raises(DefinitionError, match="split has no rows"):
            _optimize(model, search)
    with dspex.context(model=model), pytest.raises(DefinitionError, match="training set is empty"):
        run(dspex.aoptimize(dspex.Predict(Sort), FEW, train=empty, metric=dspex.exact_match))
    assert not model.requests


def test_some_of_the_validation_rows_are_drawn_and_not_the_first_ones(rulebook):
    search = Search(validation=TEST, rows=12)  # sorted by class, twelve of each
    outcome = _optimize(rulebook(lambda request: json.dumps({"label": _text(request)[0]})), search)
    scored = [[row.example["text"] for row in trial.report.rows] for trial in outcome.trials]
    assert all(rows == scored[0] for rows in scored)
    assert len(scored[0]) == 12
    assert {text[0] for text in scored[0]} == {"a", "b", "c"}


class _Given:
    """Asks for these candidates, one after the other."""

    def __init__(self, *candidates):
        self.left = list(candidates)
        self.told = []

    def start(self, task):
        return self

    def runs(self, task, rows):
        return rows * len(self.left)

    def ask(self, count):
        return [self.left.pop(0)] if self.left else []

    def tell(self, results):
        self.told += results


def test_a_candidate_that_a_constraint_refuses_fails_and_the_search_goes_on(rulebook):
    cool = dspex.Constraint(name="cool", test=dspex.var("self.temperature") < 0.5)
    program = dspex.Predict(Sort).with_variables(dspex.Float(0, 1, name="self.temperature"), cool)
    hot, mild = (
        Candidate(label=f"at {heat}", assignment={"self.temperature": heat}) for heat in (0.9, 0.4)
    )
    optimizer, model = _Given(hot, mild), rulebook(lambda _: json.dumps({"label": "a"}))
    with dspex.context(model=model):
        outcome = run(dspex.aoptimize(program, optimizer, train=TRAIN, metric=dspex.exact_match))
    assert [trial.score for trial in optimizer.told] == [None, pytest.approx(1 / 3)]
    assert "'cool' refuses the assignment" in optimizer.told[0].report.rows[0].error
    assert len(model.requests) == 2 * len(TRAIN)
    assert [trial.report.failed for trial in outcome.trials] == [0, len(TRAIN), 0]
    wrong = _Given(Candidate(label="wrong", assignment={"nope": 1}))
    with pytest.raises(VariableError, match="no variable 'nope'"), dspex.context(model=model):
        run(dspex.aoptimize(program, wrong, train=TRAIN, metric=dspex.exact_match))


def test_a_candidate_that_shows_every_row_is_warned_about_and_does_not_count(rulebook):
    rows = dspex.Dataset.from_rows(
        [{"text": text, "label": text[0]} for text in ("a0", "b0", "c0", "a1", "b1")]
    )
    model = rulebook(lambda request: json.dumps({"label": _text(request)[0]}))
    recipe = dspex.BootstrapFewShot(max_bootstrapped=5, max_labelled=0)
    with dspex.context(model=model):
        work = dspex.aoptimize(dspex.Predict(Sort), recipe, train=rows, metric=dspex.exact_match)
        with pytest.warns(UserWarning, match="shows every training row, so no row is left"):
            outcome = run(work)
    assert [len(trial.report.rows) for trial in outcome.trials] == [5, 1, 1, 1, 1, 1, 0]
    assert (outcome.best.number, outcome.trials[-1].score) == (0, None)


def test_equal_trials_are_named_and_the_one_with_fewer_tokens_is_chosen():
    class Wordy:
        """Tries instructions of several lengths, which all score the same."""

        def start(self, task):
            self._texts = iter(["Answer with care, and think about it first.", "Answer."])
            return self

        def runs(self, task, rows):
            return 2 * rows

        def additions(self, task):
            return Additions()

        def ask(self, count):
            texts = islice(self._texts, count)
            return [Candidate(label=text, assignment={"self.instructions": text}) for text in texts]

        def tell(self, results):
            pass

    rows = dspex.Dataset.from_rows([{"question": f"q{n}", "answer": "yes"} for n in range(20)])
    program = dspex.Predict(dspex.Signature("question -> answer", "Answer what is asked here."))
    with (
        dspex.context(model=ScriptedModel("[[ ## answer ## ]]\nyes")),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        outcome = dspex.optimize(program, Wordy(), train=rows, metric=dspex.exact_match)
    assert outcome.best.number == 2
    assert outcome.tie == "trial 2 ties with trials 0 and 1; it uses fewer tokens"
    assert outcome.tie in outcome.conclusion
