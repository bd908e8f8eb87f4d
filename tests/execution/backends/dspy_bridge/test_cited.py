"""Outputs of type Cited on dspy: the same quotes and errors as natively."""

import asyncio
import json
from typing import Any

import pytest

from dspex import ChainOfThought, Module, Predict
from dspex.errors import AdapterError, DefinitionError
from dspex.execution.backends import NativeBackend, Optimization
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.context import RunContext
from dspex.execution.modules.kinds import dspy_problem
from dspex.execution.workers import PoolConfig
from dspex.language.records import Passage
from dspex.modules import Majority
from dspex.testing import ScriptedModel

SIGNATURE = "passages: list[Passage], question -> answer: Cited"
TEXT = "Returns are simple. You can return a lamp within 30 days."
PASSAGES = [
    Passage(id="a#1", text=TEXT, document="lamps.md", version=3, start=100, end=100 + len(TEXT)),
    Passage(id="b#1", text="Sofas go back within a week.", metadata={"heading": "Sofas"}),
]
DEMO = {
    "passages": [{"text": "Open at nine.", "id": "c"}],
    "question": "When?",
    "answer": {"statements": [{"text": "At nine.", "sources": [{"passage": 1, "sentence": 1}]}]},
}


def reply(**source: Any) -> str:
    answer = {"statements": [{"text": "Within 30 days.", "sources": [source]}]}
    return f"[[ ## reasoning ## ]]\nso\n\n[[ ## answer ## ]]\n{json.dumps(answer)}"


@pytest.mark.full
async def test_citations_are_resolved_as_they_are_natively(newest: str) -> None:
    pool = PoolConfig(name="dspy", minimum=1, maximum=1)
    inputs = {"passages": PASSAGES, "question": "How long?"}
    replies = [
        reply(passage=1, sentence=2),
        reply(passage=1),
        reply(passage=1, quote="within a week"),
        reply(passage=2, sentence=2),
        reply(passage=3),
        reply(passage=1, quote="within 60 days"),
    ]
    modules: list[Module] = [
        Predict(SIGNATURE, repairs=0, adapter="chat"),
        ChainOfThought(SIGNATURE, repairs=0, adapter="chat", demos=[DEMO]),
    ]
    async with (
        asyncio.timeout(240),
        DspyBackend(DspyConfig(interpreter=newest, pool=pool)) as bridge,
    ):
        for module in modules:
            outcomes: list[list[Any]] = []
            paths: list[list[str]] = []
            for backend in (NativeBackend(), bridge):
                program = module.on(backend.name).to_program("p")
                handle = await backend.create_program(program)
                outcomes.append([])
                for text in replies:
                    model = ScriptedModel(text)
                    try:
                        prediction = await backend.execute_program(
                            handle, inputs, RunContext(model=model)
                        )
                        outcomes[-1].append(prediction.answer)
                    except AdapterError as error:
                        outcomes[-1].append("refused")
                        if backend is bridge:
                            paths.append([field.path for field in error.fields])
                    messages = model.requests[0].messages
                    assert "1.2 You can return a lamp" in messages[-1].text
                    if len(messages) > 2:
                        assert '"sentence": 1' in messages[2].text
            assert outcomes[0] == outcomes[1]
            assert outcomes[0][0].sources[0].quote == "You can return a lamp within 30 days."
            assert outcomes[0][3:] == ["refused"] * 3
            assert all(path[0].startswith("answer.statements[0].sources[0]") for path in paths)
        search = Optimization(
            optimizer="LabeledFewShot", metric=lambda _row, _outputs: 1.0, trainset=[]
        )
        with pytest.raises(DefinitionError, match="use those of dspex"):
            await bridge.optimize_program(handle, search, RunContext(model=ScriptedModel("a")))


def test_modules_that_run_a_citing_one_stay_here() -> None:
    program = Majority(Predict("passages: list[Passage] -> answer: Cited, mood")).to_program("p")
    assert "citations are resolved after each predictor" in dspy_problem(program.root)
