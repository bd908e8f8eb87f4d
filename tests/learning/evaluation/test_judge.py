"""A model as judge: a step of the program that no search changes."""

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.learning.evaluation.judge import Judge, judged
from dspex.sync import run
from dspex.testing import ScriptedModel

ROWS = dspex.Dataset.from_rows([{"question": f"question {n}", "answer": f"answer {n}"} for n in range(24)])
STRICT = "Judge the outputs of a program by the criterion."


def _laid_out(**fields):
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def _answer(request):
    """A judge that is strict as it is told, and would be lenient with any other instruction."""
    system = request.messages[0].content
    if "score" in system:
        return _laid_out(reason="so", score=0.2 if STRICT in system and request.temperature is None else 1.0)
    return _laid_out(description="rows", instruction="Be lenient.", answer="?")


def test_a_search_improves_the_program_and_never_the_judge():
    pytest.importorskip("optuna")
    module = Judge(dspex.Predict("question -> answer"), "is right")
    assert list(module.variables()) == ["program.instructions", "program.demos"]
    with pytest.raises(DefinitionError, match=r"takes no variable in the slot 'temperature' of 'judge\.temperature'"):
        module.with_variables(dspex.Float(0, 1, name="judge.temperature"))
    bootstrap = dspex.BootstrapFewShot(threshold=0.5, rounds=2)
    recipe = dspex.Joint(trials=6, cohort=3, first_rows=4, sets=2, instructions=3, bootstrap=bootstrap)
    with dspex.context(model=ScriptedModel(_answer)):
        search = dspex.Search(test=ROWS[12:])
        outcome = run(dspex.aoptimize(module, recipe, train=ROWS[:12], metric=judged, search=search))
    assert {row.score for trial in outcome.trials for row in trial.report.rows} == {0.2}
    assert not outcome.verdict.is_better
    assert isinstance(outcome.program.program, dspex.Predict)


def test_a_program_as_data_is_judged_like_its_module():
    program = dspex.Predict("question -> answer").to_program()
    with dspex.context(model=ScriptedModel(_answer)):
        report = run(dspex.aevaluate(Judge(program, "is right"), ROWS[:2], judged))
    assert report.mean == 0.2
