"""Variables bound by path to a program that runs elsewhere; the program knows nothing of them."""

import asyncio
import importlib.util
import json

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.execution.backends import BackendModule, IsolatedBackend, NativeBackend
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.workers import PoolConfig

pytest.importorskip("optuna")

RAG = """
import dspy


class Rag(dspy.Module):
    def __init__(self):
        super().__init__()
        self.search = dspy.Predict("question -> query")
        self.answer = dspy.ChainOfThought("question, query -> answer")

    def forward(self, question: str):
        return self.answer(question=question, query=self.search(question=question).query)
"""
TEXTS = ("Guess.", "Look it up.", "Answer as a poem.")
RECIPE = dspex.Joint(trials=6, cohort=3, first_rows=4, keep=2, instructions=1, sets=0)


def _fields(**values):
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def _looks_up(request):
    """Right only where the instructions of the last step say to look it up."""
    prompt = request.messages[-1].content
    number = prompt.partition("number ")[2][:1]
    is_good = "Look it up." in request.messages[0].content
    return _fields(reasoning="so", query="q", answer=number if is_good else "?")


def _needs_an_example(request):
    """Right where the step that answers is shown how, or drawn at temperature 1."""
    number = request.messages[-1].content.partition("number ")[2][:1]
    is_good = len(request.messages) > 2 or request.temperature == 1.0
    return _fields(
        reasoning=f"because {number}", query=f"for {number}", answer=number if is_good else "?"
    )


on_dspy = pytest.mark.skipif(
    importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'"
)
ROWS = dspex.Dataset.from_rows([{"question": f"number {n}", "answer": str(n)} for n in range(8)])


def test_a_shared_variable_is_bound_and_unknown_places_are_refused(rulebook):
    program = dspex.Predict("question -> answer").to_program()
    module = BackendModule(program, NativeBackend()).with_variables(
        dspex.Text(options=TEXTS, name="style", paths=("self.instructions",))
    )
    model = rulebook(
        lambda request: json.dumps(
            {"answer": "1" if "Guess." in request.messages[0].content else "0"}
        )
    )
    with dspex.context(model=model):
        assert module.assign({"style": "Guess."})(question="?").answer == "1"
        assert module(question="?").answer == "0"
    assert list(module.variables()) == ["self.demos", "style"]
    with pytest.raises(
        DefinitionError,
        match=r"no place 'answer.instructions'; it has: self.demos, self.instructions",
    ):
        module.with_variables(dspex.Text(name="x", paths=("answer.instructions",)))


def test_the_temperature_of_all_predictors_can_be_set_again():
    program = dspex.Predict("question -> answer").to_program()
    module = BackendModule(program, NativeBackend())
    for value in (0.5, 0.7):
        module.bind("temperature", value)
    assert module.to_program().by_place() == {"self.temperature": 0.7}


def optimized(tmp_path, model, recipe, *bound):
    """Optimize the dspy program with these variables.

    Return what was found, and its report on all rows.
    """
    (tmp_path / "rag_by_path.py").write_text(RAG)
    model.capabilities = frozenset()
    config = DspyConfig(paths=(str(tmp_path),), pool=PoolConfig(name="dspy", minimum=1, maximum=1))

    async def main():
        async with asyncio.timeout(120), DspyBackend(config) as bridge:
            module = BackendModule(
                await bridge.import_program("rag_by_path:Rag"), bridge
            ).with_variables(*bound)
            with dspex.context(model=model):
                outcome = await dspex.aoptimize(
                    module, recipe, train=ROWS, metric=dspex.exact_match
                )
                report = await dspex.aevaluate(outcome.program, ROWS, dspex.exact_match)
            return outcome, report

    return asyncio.run(main())


@pytest.mark.bridge
async def test_a_program_in_a_process_of_its_own_tells_what_its_steps_did(rulebook):
    model = rulebook(_needs_an_example)
    model.capabilities = frozenset()
    program = dspex.Predict("question -> answer").to_program()
    async with asyncio.timeout(60), IsolatedBackend() as backend:
        with dspex.context(model=model):
            recipe = dspex.BootstrapFewShot(max_bootstrapped=2, max_labelled=0, rounds=2)
            outcome = await dspex.aoptimize(
                BackendModule(program, backend), recipe, train=ROWS, metric=dspex.exact_match
            )
    assert (outcome.trials[0].score, outcome.best.score) == (0.0, 1.0)
    demos = [{"question": f"number {n}", "answer": str(n)} for n in range(2)]
    assert outcome.best.candidate.assignment == {"self.demos": demos}
    assert "self, after" in outcome.prompt_changes()


@pytest.mark.full
@on_dspy
def test_an_unmodified_dspy_program_is_optimized_by_path(rulebook, tmp_path):
    style = dspex.Text(options=TEXTS, name="style", paths=("answer.predict.instructions",))
    outcome, report = optimized(tmp_path, rulebook(_looks_up), RECIPE, style)
    assert outcome.trials[0].score == 0.0
    assert outcome.best.candidate.assignment == {"style": "Look it up."}
    assert report.mean == 1.0
    assert outcome.program.to_program().assignment["style"] == "Look it up."


@pytest.mark.full
@on_dspy
def test_instructions_are_proposed_for_each_step_of_a_dspy_program(rulebook, tmp_path):
    def answer(request):
        query = _looks_up(request)
        return f"[[ ## description ## ]]\nd\n\n[[ ## instruction ## ]]\nLook it up.\n\n{query}"

    model = rulebook(answer)
    recipe = dspex.Joint(trials=4, cohort=4, first_rows=4, keep=2, instructions=2, sets=0)
    outcome, report = optimized(tmp_path, model, recipe)
    assert (outcome.trials[0].score, report.mean) == (0.0, 1.0)
    assert outcome.best.candidate.assignment["answer.predict.instructions"] == "Look it up."
    prompts = [request.messages[-1].content for request in model.requests]
    for step in ("question: str -> query: str", "question: str, query: str -> "):
        assert sum(f"this step: StringSignature({step}" in text for text in prompts) == 1


@pytest.mark.full
@on_dspy
def test_each_step_of_a_dspy_program_gets_demonstrations_of_its_own_runs(rulebook, tmp_path):
    model = rulebook(_needs_an_example)
    recipe = dspex.BootstrapFewShot(max_bootstrapped=2, rounds=2)
    outcome, report = optimized(tmp_path, model, recipe)
    assert outcome.trials[0].score == 0.0
    assert report.mean == 1.0
    result = outcome.program.to_program().assignment
    assert result["search.demos"] == [
        {"question": f"number {n}", "query": f"for {n}"} for n in range(2)
    ]
    assert result["answer.predict.demos"] == [
        {
            "question": f"number {n}",
            "query": f"for {n}",
            "reasoning": f"because {n}",
            "answer": str(n),
        }
        for n in range(2)
    ]
    assert {request.temperature for request in model.requests} == {None, 1.0}


@pytest.mark.full
@on_dspy
def test_settings_and_demonstrations_of_a_dspy_program_are_searched_together(rulebook, tmp_path):
    def answer(request):
        """Right with an example and at a low temperature.

        With one of both for half of the rows, else for a quarter.
        """
        number = request.messages[-1].content.partition("number ")[2][:1]
        merits = (len(request.messages) > 2) + (request.temperature in {None, 0.0})
        return _fields(
            reasoning="so", query="q", answer="?" if int(number) % (4, 2, 1)[merits] else number
        )

    heat = dspex.OneOf(1.5, 0.0).named("heat", "answer.predict.temperature")
    recipe = dspex.Joint(trials=8, cohort=4, first_rows=4, keep=2, instructions=1, sets=2)
    outcome, report = optimized(tmp_path, rulebook(answer), recipe, heat)
    assert outcome.trials[0].score == 0.25
    assert report.mean == 1.0
    assert outcome.best.candidate.assignment["heat"] == 0.0
    assert outcome.best.candidate.assignment["answer.predict.demos"]
