"""What Joint searches, and by what it and MIPROv2 decide."""

import json
from typing import Any

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.execution.modules import module_of
from dspex.language.programs import Program
from dspex.language.variables import Examples
from dspex.learning.evaluation import Report, Row
from dspex.learning.optimizers import Candidate, Task, Trial
from dspex.learning.optimizers.export import to_csv, to_html
from dspex.learning.optimizers.pooled_scores import OptionScores, PooledScores
from dspex.learning.optimizers.random_search import RandomSearch
from dspex.sync import run
from dspex.testing import ScriptedModel, SimulatedModel

pytest.importorskip("optuna")

TRAIN = dspex.Dataset.from_rows(
    [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(24)]
)
TEXTS = ("Answer.", "Be careful.", "Be exact.", "Be careful and exact.")
PLAIN, REASONING = "alternatives['Predict']", "alternatives['ChainOfThought'].predict"


def _program():
    either = dspex.OneOf(
        dspex.Predict("question -> answer"), dspex.ChainOfThought("question -> answer")
    )
    return either.with_variables(
        dspex.Text(
            TEXTS[0],
            options=TEXTS,
            name="style",
            paths=(f"{PLAIN}.instructions", f"{REASONING}.instructions"),
        ),
        Examples(name="demos", paths=(f"{PLAIN}.demos", f"{REASONING}.demos")),
        dspex.Float(
            0, 1.5, name="heat", paths=(f"{PLAIN}.temperature", f"{REASONING}.temperature")
        ),
    )


def _search(program, **recipe):
    few = dspex.BootstrapFewShot(max_bootstrapped=3, max_labelled=4)
    optimizer = dspex.Joint(
        **{"trials": 24, "cohort": 6, "first_rows": 6, "instructions": 1, "sets": 3, **recipe},
        bootstrap=few,
    )
    with dspex.context(model=SimulatedModel(seed=4)):
        return run(dspex.aoptimize(program, optimizer, train=TRAIN, metric=dspex.exact_match))


@pytest.fixture(scope="module")
def outcome():
    return _search(
        _program().assign({"style": TEXTS[0], "heat": 0.0}), objectives=("exact_match", "-usd")
    )


def _tried(outcome, name):
    rows = [trial for trial in outcome.trials if "rows" in trial.candidate.label]
    return {
        json.dumps(trial.candidate.assignment[name], default=str)
        for trial in rows
        if name in trial.candidate.assignment
    }


def test_texts_demonstrations_numbers_and_modules_are_searched_together(outcome):
    assert _tried(outcome, "style") == {json.dumps(text) for text in TEXTS[1:]}
    assert len(_tried(outcome, "demos")) >= 3
    assert _tried(outcome, "self.self") == {'"Predict"', '"ChainOfThought"'}
    assert len(_tried(outcome, "heat")) > 10
    assert outcome.best.score > outcome.trials[0].score


def test_a_larger_batch_begins_with_the_smaller_one(outcome):
    sizes = {}
    for trial in outcome.trials:
        if trial.candidate.batch is not None:
            rows = {row.example["question"] for row in trial.report.rows}
            label = trial.candidate.label.partition(" on ")[0]
            assert sizes.get(label, set()) <= rows
            sizes[label] = rows


def test_the_winner_is_chosen_by_estimates_and_they_are_shown(outcome):
    final = [trial.number for trial in outcome.trials if trial.candidate.is_final]
    assert set(outcome.estimated) == set(final)
    assert outcome.best.number == max(
        final, key=lambda number: outcome.estimated[number]["exact_match"]
    )
    assert all(figures["usd"] > 0 for figures in outcome.estimated.values())


def test_only_the_named_variables_are_searched():
    result = _search(_program().assign({"style": "Be exact."}), only=("heat",), trials=8)
    assignments = [trial.candidate.assignment for trial in result.trials]
    assert all(set(values) <= {"heat"} for values in assignments)
    assert result.program.to_program().assignment["style"] == "Be exact."
    texts = _search(_program(), only=("style",), trials=20)
    assert _tried(texts, "style") == {json.dumps(text) for text in TEXTS[1:]}
    assert all(set(trial.candidate.assignment) <= {"style"} for trial in texts.trials)
    with pytest.raises(DefinitionError, match="Did you mean 'heat'"):
        _search(_program(), only=("haet",))


def test_demonstrations_of_a_shared_variable_come_from_whichever_module_ran():
    result = _search(_program().assign({"self.self": "ChainOfThought"}), only=("demos",))
    demonstrations = [
        trial.candidate.assignment.get("demos", [])
        for trial in result.trials
        if trial.candidate.batch
    ]
    assert any("reasoning" in demo for demos in demonstrations for demo in demos)


def test_page_sheet_and_plot_hold_what_was_found(outcome):
    svg = outcome.plot()
    assert svg.count("<circle") == sum(trial.candidate.is_final for trial in outcome.trials)
    assert ">best</text>" in svg
    assert ">before</text>" in svg
    page = to_html(outcome, "A & B")
    assert "<title>A &amp; B</title>" in page
    assert svg in page
    assert "self, before" not in page
    assert "+++ alternatives[&#x27;Predict&#x27;], after" in page
    assert svg in outcome._repr_html_()
    lines = to_csv(outcome).splitlines()
    assert len(lines) == 1 + len(outcome.trials)
    assert lines[0].startswith("trial,label,score")
    with pytest.raises(DefinitionError, match="unknown figure"):
        outcome.plot(x="money")


def test_prompt_changes_show_the_inputs_of_an_example(outcome):
    text = outcome.prompt_changes(TRAIN[0])
    assert "question 0" in text or "-" in text
    assert f"--- {PLAIN}, before" in text


def _trial(score, rows):
    scored = [
        Row(index=n, example=dspex.Example(n=n), scores={"score": value}) for n, value in rows
    ]
    report = Report(rows=tuple(scored), metrics=("score",), dataset="", checksum="")
    candidate = Candidate(label="", assignment={})
    return Trial(
        number=0, candidate=candidate, report=report, score=score, figures={"score": score}
    )


def test_rows_of_several_batches_count_once_each():
    pooled = PooledScores(("score",))
    pooled.add(0, _trial(1.0, [(0, 1.0), (1, 1.0)]))
    pooled.add(0, _trial(0.5, [(1, 1.0), (2, 0.0)]))
    pooled.add(1, _trial(0.5, [(0, 1.0), (1, 0.0)]))
    first, second = pooled.measurements()[0], pooled.measurements()[1]
    assert first is not None
    assert second is not None
    assert first[0].value == pytest.approx(2 / 3)
    assert first[0].variance < second[0].variance


def test_beliefs_prefer_what_did_well_in_company():
    beliefs = OptionScores(["text", "set"], "score", seed=1)
    rows = lambda right: [(n, float(n < right)) for n in range(6)]  # noqa: E731
    for text in range(2):
        for place in range(4):
            right = (5 if text else 1) + (place == 0 and not text) * 5
            beliefs.add((("set", place), ("text", text)), _trial(right / 6, rows(right)))
    good, lucky = beliefs.expected([(("set", 3), ("text", 1)), (("set", 2), ("text", 0))])
    assert good > lucky


def test_random_search_in_heats_scores_only_the_best_of_each_on_all_rows():
    few = dspex.BootstrapFewShot(max_bootstrapped=2, max_labelled=2)
    optimizer = RandomSearch(bootstrap=few, candidates=4, first_rows=5, heat=3)
    with dspex.context(model=SimulatedModel(seed=4)):
        result = run(
            dspex.aoptimize(
                dspex.Predict("question -> answer"),
                optimizer,
                train=TRAIN,
                metric=dspex.exact_match,
            )
        )
    finals = [trial for trial in result.trials[1:] if trial.candidate.is_final]
    heats = [trial for trial in result.trials if trial.candidate.batch]
    assert (len(heats), len(finals)) == (6, 2)
    for place, final in enumerate(finals):
        heat = heats[3 * place : 3 * place + 3]
        best = max(heat, key=lambda trial: (trial.score, -trial.number))
        assert final.candidate.assignment == best.candidate.assignment


def test_a_set_that_could_not_be_scored_loses_its_heat_to_one_with_a_score_below_0():
    rows = dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(8)]
    )
    few = dspex.BootstrapFewShot(max_bootstrapped=0, max_labelled=2)
    recipe = dspex.RandomSearch(bootstrap=few, candidates=0, first_rows=2, heat=2)
    proposer = recipe.start(
        Task(program=dspex.Predict("question -> answer").to_program(), train=rows)
    )
    for number, score in enumerate((None, -0.5)):
        (candidate,) = proposer.ask(1)
        assert isinstance(candidate, Candidate)
        assert not candidate.is_final
        proposer.tell([Trial(number=number, candidate=candidate, report=None, score=score)])
    (best,) = proposer.ask(1)
    assert isinstance(candidate, Candidate)
    assert isinstance(best, Candidate)
    assert (best.is_final, best.label) == (True, candidate.label.partition(" on ")[0])


def test_conditions_and_constraints_on_a_text_are_kept_in_the_search():
    text = dspex.var("self.instructions")
    program = dspex.Predict("question -> answer").with_variables(
        dspex.Text(
            "Answer.", options=("Answer.", "Be careful.", "Be exact."), name="self.instructions"
        ),
        dspex.Float(0, 1, name="self.temperature", when=text.differs("Be exact.")),
        dspex.Float(0, 1, name="self.top_p"),
        dspex.Constraint(
            name="careful is cool",
            test=~text.equals("Be careful.") | (dspex.var("self.top_p") < 0.3),
        ),
    )
    rows = dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(12)]
    )
    recipe = dspex.Joint(trials=12, cohort=4, first_rows=4, instructions=1, sets=1)
    with dspex.context(model=SimulatedModel(seed=1)):
        outcome = run(dspex.aoptimize(program, recipe, train=rows, metric=dspex.exact_match))
    assignments = [
        trial.candidate.assignment
        for trial in outcome.trials
        if "self.top_p" in trial.candidate.assignment
    ]
    texts = [values.get("self.instructions", "Answer.") for values in assignments]
    assert set(texts) == {"Answer.", "Be careful.", "Be exact."}
    assert all(
        ("self.temperature" in values) == (text != "Be exact.")
        for text, values in zip(texts, assignments, strict=True)
    )
    assert all(
        values["self.top_p"] < 0.3
        for text, values in zip(texts, assignments, strict=True)
        if text == "Be careful."
    )
    assert not any(trial.report.failed for trial in outcome.trials)


WORDS = {"cards": ("card", "pin"), "payments": ("wire", "debit"), "account": ("login", "name")}


def _first_shown(request):
    """Answers like the first of few demonstrations; more of them confuse it."""
    labels = [
        json.loads(message.text)["label"]
        for message in request.messages
        if message.role == "assistant"
    ]
    return json.dumps({"label": labels[0] if 0 < len(labels) <= 2 else "none"})


def test_the_number_of_nearest_demonstrations_is_searched_with_their_pool():
    rows = [
        {"text": f"{word} {n}", "label": label}
        for n in range(6)
        for label, words in WORDS.items()
        for word in words
    ]
    program = dspex.Predict(
        "text -> label",
        nearest=dspex.Integer(1, 8, default=8),
        embedder="hash",
        adapter="json",
    )
    pools = dspex.BootstrapFewShot(max_bootstrapped=0, max_labelled=18)
    with dspex.context(model=ScriptedModel(_first_shown)):
        outcome = dspex.optimize(
            program,
            dspex.Joint(trials=16, bootstrap=pools),
            train=dspex.Dataset.from_rows(rows),
            metric=dspex.exact_match,
        )
    best = outcome.best.candidate
    assert best.assignment["self.nearest"] <= 2
    assert len(best.assignment["self.demos"]) == len(best.shown) == 18
    assert outcome.trials[0].score == 0.0
    assert outcome.best.score is not None
    assert outcome.best.score >= 0.5
    stored = Program.from_dict(json.loads(json.dumps(outcome.program.to_program().to_dict())))
    module: Any = module_of(stored)
    assert module.nearest == outcome.program.nearest == best.assignment["self.nearest"]
