"""Variables bound by path to a program that runs elsewhere; the program knows nothing of them."""

import asyncio
import importlib.util
import json

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.execution.backends import NativeBackend
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.workers import PoolConfig
from dspex.learning.evaluation import Backed

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
    """Right only where the step that answers is told to look it up."""
    said = request.messages[-1].content
    number = said.partition("number ")[2][:1]
    is_good = "Look it up." in request.messages[0].content
    return _fields(reasoning="so", query="q", answer=number if is_good else "?")


ROWS = dspex.Dataset.from_rows([{"question": f"number {n}", "answer": str(n)} for n in range(8)])


def test_a_shared_variable_is_bound_and_unknown_places_are_refused(rulebook):
    program = dspex.Predict("question -> answer").to_program()
    module = Backed(program, NativeBackend()).with_variables(
        dspex.Text(options=TEXTS, name="style", paths=("self.instructions",))
    )
    model = rulebook(lambda request: json.dumps({"answer": "1" if "Guess." in request.messages[0].content else "0"}))
    with dspex.context(model=model):
        assert module.assign({"style": "Guess."})(question="?").answer == "1"
        assert module(question="?").answer == "0"
    assert list(module.variables()) == ["self.demos", "style"]
    with pytest.raises(DefinitionError, match=r"no place 'answer.instructions'; it has: self.demos, self.instructions"):
        module.with_variables(dspex.Text(name="x", paths=("answer.instructions",)))


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
def test_an_unmodified_dspy_program_is_optimized_by_path(rulebook, tmp_path):
    (tmp_path / "rag_by_path.py").write_text(RAG)
    model = rulebook(_looks_up)
    model.capabilities = frozenset()
    config = DspyConfig(paths=(str(tmp_path),), pool=PoolConfig(name="dspy", minimum=1, maximum=1))

    async def main():
        async with asyncio.timeout(120), DspyBackend(config) as bridge:
            program = await bridge.import_program("rag_by_path:Rag")
            module = Backed(program, bridge).with_variables(
                dspex.Text(options=TEXTS, name="style", paths=("answer.predict.instructions",))
            )
            with dspex.context(model=model):
                outcome = await dspex.optimize(module, RECIPE, train=ROWS, metric=dspex.exact_match)
                report = await dspex.evaluate(outcome.program, ROWS, dspex.exact_match)
            return outcome, report

    outcome, report = asyncio.run(main())
    assert outcome.trials[0].score == 0.0
    assert outcome.best.candidate.assignment == {"style": "Look it up."}
    assert report.mean == 1.0
    assert outcome.program.to_program().assignment["style"] == "Look it up."
