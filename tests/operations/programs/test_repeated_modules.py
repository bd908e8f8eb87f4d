"""Modules that run others several times, created over the API and executed."""

import dataclasses
from typing import Any

import pytest

from dspex.bootstrap import open_services
from dspex.errors import InvalidError
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Settings
from dspex.testing import LoopbackServer, http_answer

QUESTION = {"question": "?"}


def says(**fields: object) -> bytes:
    text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
    return http_answer({"choices": [{"message": {"content": text}}]})


def program(module: str, signature: str, **configuration: Any) -> CreateProgram:
    return CreateProgram(name="p", signature=signature, module=module, configuration=configuration)


SCORED = "question -> answer, is_right: bool"
CASES: dict[str, tuple[CreateProgram, list[bytes], dict[str, Any], dict[str, Any]]] = {
    "retry": (
        program("retry", SCORED, attempts=2, accept="is_right"),
        [says(answer="41", is_right=False), says(answer="42", is_right=True)],
        QUESTION,
        {"answer": "42", "is_right": True},
    ),
    "best_of_n": (
        program("best_of_n", "question -> answer, score: float", n=2, reward="score"),
        [says(answer="41", score=0.1), says(answer="42", score=0.9)],
        QUESTION,
        {"answer": "42", "score": 0.9},
    ),
    "majority": (
        program("majority", "question -> answer", n=3, strategy="chain_of_thought"),
        [says(reasoning="so", answer=text) for text in ("42", "42", "41")],
        QUESTION,
        {"reasoning": "so", "answer": "42"},
    ),
    "ensemble": (
        program(
            "ensemble",
            "question -> answer",
            modules=["You know the law.", {"role": "You know sums.", "temperature": 0.5}, {}],
        ),
        [says(answer=text) for text in ("42", "42", "41")],
        QUESTION,
        {"answer": "42"},
    ),
    "parallel": (
        program("parallel", "question -> answer", concurrency=1),
        [says(answer="41"), says(answer="42")],
        {"rows": [QUESTION, {"text": "?"}, QUESTION]},
        {"results": [{"answer": "41"}, None, {"answer": "42"}]},
    ),
    "multi_chain_comparison": (
        program("multi_chain_comparison", "question -> answer", n=2),
        [
            says(reasoning="so", answer="41"),
            says(reasoning="so", answer="42"),
            says(rationale="both", answer="42"),
        ],
        QUESTION,
        {"rationale": "both", "answer": "42"},
    ),
}


@pytest.mark.parametrize("kind", CASES)
async def test_it_is_created_from_text_and_runs(settings: Settings, kind: str) -> None:
    request, replies, inputs, outputs = CASES[kind]
    async with LoopbackServer(*replies) as server:
        served = dataclasses.replace(settings, model=f"{server.url}/v1#m")
        async with open_services(served) as services:
            await create_program(services.operations, request)
            execution = await execute_program(
                services.operations, ExecuteProgram(program="p", inputs=inputs)
            )
            assert execution.status == "completed", execution.error
            result = execution.outputs or {}
            assert {name: result[name] for name in outputs} == outputs
            assert len(server.asked) == len(replies)
            if kind == "parallel":
                assert [error is None for error in result["errors"]] == [True, False, True]
                assert "question: required" in result["errors"][1]


async def test_roles_and_settings_of_an_ensemble_reach_the_prompts(settings: Settings) -> None:
    request, replies, inputs, _ = CASES["ensemble"]
    async with LoopbackServer(*replies) as server:
        served = dataclasses.replace(settings, model=f"{server.url}/v1#m")
        async with open_services(served) as services:
            await create_program(services.operations, request)
            await execute_program(services.operations, ExecuteProgram(program="p", inputs=inputs))
        bodies = [call.body for call in server.asked]
        assert sum(b"You know the law." in body for body in bodies) == 1
        [sums] = [body for body in bodies if b"You know sums." in body]
        assert b'"temperature":0.5' in sums.replace(b" ", b"")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (program("retry", SCORED, accept="answer"), "`accept` .*'answer' is not an output that is"),
        (program("retry", SCORED, attempts=0), "attempts must be a whole number from 1"),
        (
            program("retry", SCORED, attempt=2),
            "a retry takes no 'attempt'. Did you mean 'attempts'",
        ),
        (program("ensemble", SCORED), "`modules` is a list of roles or objects"),
        (program("ensemble", SCORED, modules=[3]), r"modules\[0\] must be a role or an object"),
        (
            program("ensemble", SCORED, modules=[{"rol": "x"}]),
            r"modules\[0\] takes no 'rol'. Did you mean 'role'",
        ),
        (
            program("ensemble", SCORED, modules=["x", {"model": "openia/gpt"}]),
            r"configuration\.modules\[1\]\.model: unknown model .* Did you mean 'openai'",
        ),
        (program("parallel", SCORED, concurrency=0), "concurrency must be a whole number from 1"),
    ],
)
async def test_mistakes_are_refused_with_their_place(
    settings: Settings, request_: CreateProgram, message: str
) -> None:
    async with open_services(settings) as services:
        with pytest.raises(InvalidError, match=message):
            await create_program(services.operations, request_)
