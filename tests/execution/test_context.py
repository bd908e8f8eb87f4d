"""One context for each run, wherever the run goes: notebooks, threads, tasks and tools."""

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import dspex
from dspex import Module, Predict, ReAct
from dspex.execution.context import Cancellation, RunContext, current
from dspex.language.records import ToolCall
from dspex.testing import ScriptedModel


def answering(name: str) -> ScriptedModel:
    return ScriptedModel(f"[[ ## answer ## ]]\n{name}", name=name)


class Deep(Module):
    """A synchronous forward around an asynchronous one, which starts tasks."""

    signature = "question -> answer"

    def __init__(self):
        self.wide = Wide()

    def forward(self, question):
        return self.wide(question=question)


class Wide(Module):
    def __init__(self):
        self.ask = Predict("question -> answer")

    async def forward(self, question):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.ask.acall(question=question)) for _ in range(3)]
        (answer,) = {task.result().answer for task in tasks}
        return {"answer": answer}


def user(name: str) -> str:
    """Run a program as synchronous code does, and say what it was answered."""
    with dspex.context(model=answering(name)):
        prediction = Deep()(question="who?")
    assert list(prediction.usage.by_model) == [name]
    assert prediction.usage.calls == 3
    return prediction.answer


def test_threads_that_run_programs_at_once_keep_their_contexts():
    together = threading.Barrier(8)

    def thread(name: str) -> list[str]:
        together.wait(10)
        return [user(f"{name}{n}") for n in range(5)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(thread, "abcdefgh"))
    assert results == [[f"{name}{n}" for n in range(5)] for name in "abcdefgh"]


async def test_cells_of_a_notebook_call_programs_while_its_loop_runs():
    dspex.configure(model=answering("default"))  # one cell
    first = Deep()(question="who?").answer  # another
    prediction = await Deep().acall(question="who?")
    assert [first, prediction.answer, user("block"), Deep()(question="who?").answer] == [
        "default",
        "default",
        "block",
        "default",
    ]


async def test_requests_of_a_server_keep_their_contexts_through_every_kind_of_module():
    async def request(name: str) -> str:
        return (await Deep().acall(RunContext(model=answering(name)), question="who?")).answer

    assert (await asyncio.gather(*(request(f"u{n}") for n in range(12)))) == [
        f"u{n}" for n in range(12)
    ]


def test_a_synchronous_tool_runs_programs_in_the_context_of_its_agent():
    ask = Predict("question -> answer")

    def expert(question: str) -> str:
        """Ask the expert."""
        return ask(question=question).answer

    agent = ReAct("task -> report", [expert])
    script = (
        ToolCall("1", "expert", {"question": "?"}),
        "[[ ## answer ## ]]\nyes",
        ToolCall("2", "finish", {"report": "r"}),
    )
    model = ScriptedModel(*script, capabilities=["tools"])
    prediction = agent(RunContext(model=model), task="t")
    assert [turn.content for turn in model.requests[-1].messages if turn.role == "tool"] == ["yes"]
    assert prediction.usage.calls == 3
    (tool,) = [span for span in prediction.trace.spans if span.kind == "tool"]
    assert [span.parent_id for span in prediction.trace.spans if span.name == "Predict"] == [
        tool.span_id
    ]


async def test_a_context_ends_with_its_block_and_never_reaches_the_caller():
    with dspex.context(model=answering("a"), seed=3):
        inside = asyncio.create_task(asyncio.sleep(0, current().seed))
    assert current().seed is None
    assert (await Deep().acall(RunContext(model=answering("b")), question="q")).answer == "b"
    assert current().model is None
    assert (await inside) == 3


async def test_a_deadline_inside_a_run_leaves_the_run_to_its_cancellation():
    ask, cancellation = Predict("question -> answer"), Cancellation()

    class Outer(Module):
        async def forward(self, question):
            await ask.acall(current().within(60), question=question)
            cancellation.cancel()
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await Outer().acall(
                RunContext(model=answering("a"), cancellation=cancellation), question="q"
            )


async def test_an_evaluation_inside_a_run_belongs_to_its_execution_and_tells_it_no_calls():
    ask, calls, executions = Predict("question -> answer"), [], []

    class Inner(Module):
        signature = "question -> answer"

        async def forward(self, question):
            executions.append(current().frame.execution_id)
            return {"answer": (await ask.acall(question=question)).answer}

    class Outer(Module):
        signature = "question -> answer"

        async def forward(self, question):
            report = await dspex.aevaluate(Inner(), rows, dspex.exact_match)
            return {"answer": f"{report.scored}"}

    rows = dspex.Dataset.from_rows([{"question": "q", "answer": "a"}])
    execution_id = uuid.uuid4()
    context = RunContext(model=answering("a")).part_of(execution_id)
    listening = context.listening(on_call=lambda *call: calls.append(call))
    assert (await Outer().acall(listening, question="q")).answer == "1"
    assert (executions, calls) == ([execution_id], [])
    await dspex.aevaluate(Inner(), rows, dspex.exact_match, context=listening)
    assert executions == [execution_id] * 2
    assert [path for path, *_ in calls] == ["Predict"]
