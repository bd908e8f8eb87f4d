"""A model as judge: a step of the program that no search changes."""

import json

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.evaluation import Judge, judged
from dspex.execution.modules import Retry, build
from dspex.execution.modules.judged_module import JudgedModule
from dspex.language.programs import Program
from dspex.sync import run
from dspex.testing import ScriptedModel

ROWS = dspex.Dataset.from_rows(
    [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(24)]
)
STRICT = "Judge the outputs of a program by the criterion."


def _laid_out(**fields):
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def _answer(request):
    """A judge that is strict as it is told, and would be lenient with any other instruction."""
    system = request.messages[0].content
    if "score" in system:
        return _laid_out(
            reason="so", score=0.2 if STRICT in system and request.temperature is None else 1.0
        )
    return _laid_out(description="rows", instruction="Be lenient.", answer="?")


def test_a_search_improves_the_program_and_never_the_judge():
    pytest.importorskip("optuna")
    module = Judge(dspex.Predict("question -> answer"), "is right")
    assert list(module.variables()) == ["program.instructions", "program.demos"]
    with pytest.raises(
        DefinitionError,
        match=r"takes no variable in the slot 'temperature' of 'judge\.temperature'",
    ):
        module.with_variables(dspex.Float(0, 1, name="judge.temperature"))
    bootstrap = dspex.BootstrapFewShot(threshold=0.5, rounds=2)
    recipe = dspex.Joint(
        trials=6, cohort=3, first_rows=4, sets=2, instructions=3, bootstrap=bootstrap
    )
    with dspex.context(model=ScriptedModel(_answer)):
        search = dspex.Search(test=ROWS[12:])
        outcome = run(
            dspex.aoptimize(module, recipe, train=ROWS[:12], metric=judged, search=search)
        )
    assert {row.score for trial in outcome.trials for row in trial.report.rows} == {0.2}
    assert outcome.verdict is not None
    assert not outcome.verdict.is_better
    assert isinstance(outcome.program.program, dspex.Predict)


def test_a_program_as_data_is_judged_like_its_module():
    program = dspex.Predict("question -> answer").to_program()
    with dspex.context(model=ScriptedModel(_answer)):
        report = run(dspex.aevaluate(Judge(program, "is right"), ROWS[:2], judged))
    assert report.mean == 0.2


def test_a_judge_is_stored_and_built_again_with_what_it_judges():
    module = Judge(
        dspex.Predict("question -> answer", temperature=0.5),
        "is right",
        model="http://127.0.0.1:1/v1#m",
    )
    program = module.to_program("judged_qa")
    again = build(Program.from_dict(json.loads(program.to_json())))
    assert isinstance(again, JudgedModule)
    assert (again.criterion, again.judge.model) == ("is right", "http://127.0.0.1:1/v1#m")
    assert again.to_program("judged_qa") == program
    assert list(again.variables()) == list(module.variables())
    assert list(program.signature.output_fields) == ["answer", "judged", "because"]


def test_a_stored_judge_scores_and_changes_with_its_program_alone():
    program = Judge(dspex.Predict("question -> answer"), "is right").to_program("p")
    better = program.assign({"program.instructions": "Answer at length."})
    with dspex.context(model=ScriptedModel(_answer)):
        report = dspex.evaluate(build(better), ROWS[:2], judged)
    assert report.mean == 0.2
    judge = build(better)
    assert isinstance(judge, JudgedModule)
    assert "Answer at length." in judge.program.signature.instructions


def test_a_judge_within_a_module_and_around_another_module_is_stored():
    retried = Retry(Judge(dspex.ChainOfThought("question -> answer"), "is right"), attempts=2)
    program = retried.to_program("p")
    assert [node.kind for node in program.root.walk()] == [
        "retry",
        "judge",
        "chain_of_thought",
        "predict",
    ]
    assert build(program).to_program("p") == program


def test_a_program_with_an_output_of_the_judge_is_refused():
    with pytest.raises(DefinitionError, match="'judged', which a Judge adds itself"):
        Judge(dspex.Predict("question -> judged"), "is right").contract()


def test_a_judge_is_a_program_of_the_store(tmp_path):
    module = Judge(dspex.Predict("question -> answer"), "is right")
    with dspex.open(tmp_path) as store, dspex.context(model=ScriptedModel(_answer)):
        assert module(question="1?")["judged"] == 0.2
        (execution,) = store.executions()
    assert execution.outputs == {"answer": "?", "judged": 0.2, "because": "so"}
