"""Modules that run others several times: their predictors run on dspy, with the same answers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dspex import ChainOfThought, Module, Predict, Prediction
from dspex.execution.backends import HybridBackend, NativeBackend
from dspex.execution.backends.choice import _move_nodes as move_nodes
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.clients import Request
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import PoolConfig
from dspex.modules import BestOfN, Ensemble, Majority, MultiChainComparison, Refine, Retry
from dspex.testing import ScriptedModel

if TYPE_CHECKING:
    from dspex.execution.backends.backend import Backend
    from dspex.language.programs import Program

pytestmark = pytest.mark.full
CODE = CodeRoot(Path(__file__).parents[4])
POOL = PoolConfig(name="dspy", minimum=1, maximum=1)


def answer_length(_inputs: object, prediction: Prediction) -> float:
    return float(len(prediction.answer))


def is_short(prediction: Prediction) -> bool:
    return len(prediction.answer) < 3


def chat(**fields: str) -> str:
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


ANSWERS = [chat(answer=text) for text in ("long", "of", "of")]
THOUGHTS = [chat(reasoning=text, answer=text) for text in ("one", "two")]
QA = "question -> answer"


def by_rollout(request: Request) -> str:
    """Reply to attempts that run at once, in any order."""
    if "rationale" in request.messages[0].text:
        return chat(rationale="both", answer="two")
    texts = THOUGHTS if "reasoning" in request.messages[0].text else ANSWERS
    return texts[request.rollout % len(texts)]


CASES: dict[str, tuple[Callable[[], Module], list[Any]]] = {
    "best of three": (lambda: BestOfN(Predict(QA), reward=answer_length, n=3), [by_rollout]),
    "refined": (
        lambda: Refine(Predict(QA), reward=answer_length, n=2, threshold=4),
        [ANSWERS[1], chat(discussion="short", advice='{"module": "write more"}'), ANSWERS[0]],
    ),
    "majority": (lambda: Majority(Predict(QA), n=3), [by_rollout]),
    "retried": (lambda: Retry(Predict(QA), accept=is_short), ANSWERS),
    "ensemble": (lambda: Ensemble([Predict(QA), ChainOfThought(QA)]), [by_rollout]),
    "comparison": (lambda: MultiChainComparison(QA, n=2), [by_rollout]),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_predictors_inside_run_on_dspy_and_the_answer_is_the_same(
    newest: str, case: str
) -> None:
    create, replies = CASES[case]
    program = create().to_program("p")
    mixture = move_nodes(
        program, "dspy", supports=lambda node: node.kind in {"predict", "chain_of_thought"}
    )
    config = DspyConfig(interpreter=newest, pool=POOL)
    async with asyncio.timeout(240), DspyBackend(config) as bridge:
        outputs: list[Any] = []
        backends: list[tuple[Backend, Program]] = [
            (NativeBackend(code=CODE), program),
            (HybridBackend({"dspy": bridge}, code=CODE), mixture),
        ]
        for backend, version in backends:
            model = ScriptedModel(*replies)
            handle = await backend.create_program(version)
            context = RunContext(model=model)
            prediction = await backend.execute_program(handle, {"question": "?"}, context)
            calls = sorted(
                (request.rollout, request.temperature or 0, request.seed or 0)
                for request in model.requests
            )
            outputs.append((prediction.to_dict(), calls))
    assert outputs[0] == outputs[1]
    assert "backend" in {span.kind for span in prediction.trace.spans}
