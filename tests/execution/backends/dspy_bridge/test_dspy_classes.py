"""Modules that dspy has, too, run as dspy's own: the outputs and requests of plain dspy."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dspex import ChainOfThought, Module, Predict, ReAct, Signature
from dspex.errors import (
    DefinitionError,
    ExecutionError,
    InputError,
    ModelUnavailableError,
    ToolError,
)
from dspex.execution.backends import BackendModule
from dspex.execution.backends.choice import _move_nodes as move_nodes
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.backends.dspy_bridge.definitions import lower
from dspex.execution.backends.dspy_bridge.functions import Functions
from dspex.execution.clients import Request
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.kinds import dspy_problem
from dspex.execution.question import Question
from dspex.execution.tools import Tool, ToolPolicy
from dspex.execution.workers import PoolConfig
from dspex.language.programs import Program
from dspex.modules import (
    RLM,
    BestOfN,
    CodeAct,
    Majority,
    MultiChainComparison,
    Parallel,
    Refine,
    Retry,
)
from dspex.telemetry import FieldDelta
from dspex.testing import ScriptedModel
from tests.execution.backends.dspy_bridge.programs.rewards import answer_length, square

pytestmark = pytest.mark.full
POOL = PoolConfig(name="dspy", minimum=1, maximum=1)
CODE = CodeRoot(Path(__file__).parents[4])
QA = Signature("question -> answer", "Answer the question.")


def chat(**fields: str) -> str:
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def thought(answer: str) -> str:
    return chat(reasoning="so", answer=answer)


def by_rollout(*replies: Any) -> Callable[[Request], Any]:
    return lambda request: replies[request.rollout]


def best(**options: Any) -> Module:
    return BestOfN(Predict(QA), reward=answer_length, n=3, **options)


QUESTION = {"question": "?"}
SHORT, LONG, OF = chat(answer="a"), chat(answer="long"), chat(answer="of")
COMPLETIONS = [{"reasoning": "because", "answer": text} for text in ("one", "two")]
ADVICE = chat(discussion="too short", advice='{"module.predict": "write more"}')
SQUARED = "```python\nprint(square(7))\n```"
CASES: dict[str, tuple[Callable[[], Module], str, Any, Mapping[str, Any]]] = {
    "best of three": (best, "Best", [SHORT, LONG, OF], QUESTION),
    "good enough": (lambda: best(threshold=3.0), "Best", [SHORT, LONG], QUESTION),
    "refined": (
        lambda: Refine(ChainOfThought(QA), reward=answer_length, n=2, threshold=4.0),
        "Refined",
        [thought("a"), ADVICE, thought("long")],
        QUESTION,
    ),
    "majority": (lambda: Majority(Predict(QA), n=3), "Vote", by_rollout(LONG, OF, OF), QUESTION),
    "compared": (
        lambda: MultiChainComparison(QA, n=2),
        "Compared",
        [chat(rationale="both", answer="two")],
        {**QUESTION, "completions": COMPLETIONS},
    ),
    "many rows": (
        lambda: Parallel(Predict(QA), concurrency=1),
        "Many",
        [SHORT, LONG],
        {"rows": [{"question": "a"}, {"question": "b"}]},
    ),
    "code with tools": (
        lambda: CodeAct(QA, [square], max_iters=2),
        "Acting",
        [chat(generated_code=SQUARED, finished="True"), thought("49")],
        QUESTION,
    ),
    "long inputs": (
        lambda: RLM(QA, max_iters=3),
        "Exploring",
        [
            chat(reasoning="ask", code="```python\nprint(llm_query('part?'))\n```"),
            "a part",
            chat(reasoning="end", code="```python\nSUBMIT(answer='49')\n```"),
        ],
        QUESTION,
    ),
}


def on_dspy(module: Module, **config: Any) -> Program:
    """Return a module as a program whose root runs on dspy, as `--backend dspy` moves it."""
    program = module.to_program("p")
    assert not dspy_problem(program.root)
    mixture = move_nodes(program, "dspy", supports=lambda node: not dspy_problem(node))
    return replace(mixture, root=replace(mixture.root, config={**mixture.root.config, **config}))


async def outcome(
    bridge: DspyBackend, program: Program, replies: Any, inputs: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any]]:
    model = ScriptedModel(*(replies if isinstance(replies, list) else [replies]))
    handle = await bridge.create_program(program)
    prediction = await bridge.execute_program(handle, inputs, RunContext(model=model))
    requests = sorted(
        (request.rollout, str(request.messages), request.temperature) for request in model.requests
    )
    return prediction.to_dict(), requests


async def test_outputs_and_requests_are_those_of_plain_dspy(
    bridge: DspyBackend, interpreter: str
) -> None:
    for case, (create, target, replies, inputs) in CASES.items():
        local = {"interpreter": "local"} if target in {"Acting", "Exploring"} else {}
        threshold = {"init": {"threshold": 1e9}} if case == "best of three" else {}
        if local and interpreter != sys.executable:  # the older dspy
            with pytest.raises(DefinitionError, match="has no local interpreter; leave"):
                await bridge.create_program(on_dspy(create(), **local))
            continue
        ours, requests = await outcome(bridge, on_dspy(create(), **local), replies, inputs)
        plain = await bridge.import_program(f"wrapped:{target}", **threshold)
        theirs, plain_requests = await outcome(bridge, plain, replies, inputs)
        assert (case, requests) == (case, plain_requests)
        ours.pop("errors", None)  # of Parallel, which dspy has elsewhere
        assert (case, ours) == (case, theirs)


@pytest.mark.parametrize("case", ["code with tools", "long inputs"])
async def test_code_runs_in_the_sandbox_of_dspy_or_the_error_says_what_it_needs(
    bridge: DspyBackend, case: str
) -> None:
    create, _, replies, inputs = CASES[case]
    results: list[Any] = await asyncio.gather(
        outcome(bridge, on_dspy(create()), replies, inputs), return_exceptions=True
    )
    [result] = results
    if isinstance(result, BaseException):
        assert isinstance(result, ToolError)
        assert "needs deno: pip install deno" in result.message
        pytest.skip(f"dspy's sandbox does not run here: {result.message.splitlines()[0][:300]}")
    outputs, requests = result
    assert (outputs["answer"], len(requests)) == ("49", len(replies))


@pytest.fixture
async def bridge(interpreter: str, folder: str) -> AsyncIterator[DspyBackend]:
    config = DspyConfig(interpreter=interpreter, pool=POOL, paths=(folder,))
    async with asyncio.timeout(240), DspyBackend(config, code=CODE) as backend:
        yield backend


async def test_attempts_are_in_the_trace_by_their_paths_and_silent_in_streams(
    bridge: DspyBackend,
) -> None:
    program = on_dspy(BestOfN(ChainOfThought(QA), reward=answer_length, n=2))
    model = ScriptedModel(thought("a"), thought("ab"), capabilities=["streaming"])
    module = BackendModule(program, bridge)
    events = [event async for event in module.stream(RunContext(model=model), question="?")]
    assert {event.path for event in events if isinstance(event, FieldDelta)} == set()
    prediction = await module.acall(
        RunContext(model=ScriptedModel(thought("a"), thought("ab"))), question="?"
    )
    assert prediction.answer == "ab"
    paths = [(span.name, span.path) for span in prediction.trace.spans if span.kind == "module"]
    assert paths == [
        ("Predict", "module.predict"),
        ("ChainOfThought", "module"),
        ("Predict", "module.predict"),
        ("ChainOfThought", "module"),
        ("BestOfN", "self"),
        ("BackendModule", "self"),
    ]


async def test_rewards_by_an_output_and_settings_of_the_predictor_inside_apply(
    bridge: DspyBackend,
) -> None:
    inner = Predict("question -> answer, score: float", model="local/small", max_tokens=7)
    program = on_dspy(BestOfN(inner, reward="score", n=2))
    small = ScriptedModel(chat(answer="a", score="0.1"), chat(answer="b", score="0.9"))
    context = RunContext(model=ScriptedModel("unused"), models={"local/small": small}.__getitem__)
    handle = await bridge.create_program(program)
    prediction = await bridge.execute_program(handle, {"question": "?"}, context)
    assert prediction.answer == "b"
    assert [(request.max_tokens, request.temperature) for request in small.requests] == [
        (7, 1.0),
        (7, 1.0),
    ]


async def test_one_failed_attempt_counts_as_none_and_if_all_fail_the_last_error_is_raised(
    bridge: DspyBackend,
) -> None:
    error = ModelUnavailableError("gone")
    for create in (best, lambda: Majority(Predict(QA), n=3)):
        program = on_dspy(create())
        outputs, _ = await outcome(bridge, program, [by_rollout(error, OF, OF)], QUESTION)
        assert outputs == {"answer": "of"}
        with pytest.raises(ModelUnavailableError) as failure:
            await outcome(bridge, program, [lambda _request: error], QUESTION)
        assert failure.value is error


async def test_a_reward_that_fails_is_a_failed_attempt(bridge: DspyBackend) -> None:
    program = on_dspy(BestOfN(Predict(QA), reward=not_finite, n=2))
    with pytest.raises(ExecutionError, match="the reward must be a number"):
        await outcome(bridge, program, [OF], QUESTION)


async def test_a_comparison_draws_its_attempts_or_checks_those_that_it_gets(
    bridge: DspyBackend,
) -> None:
    program = on_dspy(MultiChainComparison(QA, n=2))

    def reply(request: Request) -> str:
        if "rationale" in request.messages[0].text:
            return chat(rationale="both", answer="two")
        return thought(str(request.rollout))

    outputs, requests = await outcome(bridge, program, [reply], QUESTION)
    assert outputs == {"rationale": "both", "answer": "two"}
    assert [rollout for rollout, _, _ in requests] == [0, 0, 1]
    for completions, message in (
        (COMPLETIONS[:1], "expected 2 completions, not 1"),
        ([*COMPLETIONS[:1], {"answer": "x"}], "expected `reasoning` and 'answer' in completion 2"),
    ):
        with pytest.raises(InputError, match=message):
            await outcome(bridge, program, [reply], {**QUESTION, "completions": completions})


async def test_rows_that_fail_have_their_error_and_the_others_their_result(
    bridge: DspyBackend,
) -> None:
    def reply(request: Request) -> Any:
        is_good = "good" in request.messages[-1].text
        return OF if is_good else ModelUnavailableError("gone")

    rows = [{"question": "good"}, {"question": "bad"}, {"text": "?"}, "good"]
    outputs, _ = await outcome(bridge, on_dspy(Parallel(Predict(QA))), [reply], {"rows": rows})
    assert outputs["results"] == [{"answer": "of"}, None, None, None]
    assert [error and error.partition(" (")[0] for error in outputs["errors"]] == [
        None,
        "gone",
        "the row lacks question",
        "expected the inputs as an object, got str",
    ]


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (
            BestOfN(Predict(QA), reward=Predict("question, answer -> score: float")),
            "dspy's rewards are not modules",
        ),
        (
            Refine(Predict(QA), reward=answer_length, threshold=1, goal="long"),
            "dspy's Refine has no `goal`",
        ),
        (Majority(Predict("a -> b: int")), "dspy's majority compares texts, and 'b' is not one"),
        (CodeAct(QA, [square], sandbox="monty"), "its own interpreter, without `sandbox`"),
        (
            CodeAct(QA, [Tool.from_function(square, policy=ToolPolicy(timeout=1))]),
            "copies the source of functions",
        ),
        (RLM(QA, limits={"seconds": 1}), "its own interpreter, without `limits`"),
        (Majority(Retry(Predict(QA))), "dspy has no counterpart of the kind 'retry'"),
    ],
)
def test_what_the_class_of_dspy_lacks_stays_here_and_is_refused_there(
    module: Module, problem: str
) -> None:
    program = module.to_program("p")
    assert problem in dspy_problem(program.root)
    mixture = move_nodes(program, "dspy", supports=lambda node: not dspy_problem(node))
    assert mixture.root.backend == "native"
    assert any(node.backend == "dspy" for node in mixture.root.walk())  # its predictors
    with pytest.raises(DefinitionError, match="run the program natively"):
        lower(program, Functions({}, CODE))


async def test_a_tool_that_needs_its_module_is_refused_with_the_reason(
    bridge: DspyBackend,
) -> None:
    reasons = "'typed' does not run alone|has no local interpreter"
    with pytest.raises(DefinitionError, match=reasons):
        await bridge.create_program(on_dspy(CodeAct(QA, [typed]), interpreter="local"))


async def test_tools_with_a_policy_run_here_under_it(bridge: DspyBackend) -> None:
    tool = Tool.from_function(square, policy=ToolPolicy(approval=True))
    program = on_dspy(ReAct(QA, [tool]))
    replies = [
        chat(next_thought="t", next_tool_name="square", next_tool_args='{"n": 7}'),
        chat(next_thought="t", next_tool_name="finish", next_tool_args="{}"),
        thought("no"),
    ]
    questions = []

    def answer(question: Question) -> dict[str, Any]:
        questions.append(question.inputs)
        return {"approved": False, "reason": "too large"}

    model = ScriptedModel(*replies)
    handle = await bridge.create_program(program)
    context = RunContext(model=model, answer=answer)
    await bridge.execute_program(handle, QUESTION, context)
    assert questions == [{"tool": "square", "arguments": {"n": 7}}]
    assert "a person rejected this call: too large" in model.requests[1].messages[-1].text


def not_finite(_inputs: object, _prediction: object) -> float:
    return float("nan")


Number = int


def typed(n: Number) -> Number:
    """Return a number."""
    return n
