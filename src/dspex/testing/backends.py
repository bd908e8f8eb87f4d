"""The contract suite of backends, and a model that fills in any output fields."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from dspex.errors import DefinitionError, DspexError, InputError, NotFoundError
from dspex.execution.backends import Backend, Handle, Optimization, OptimizingBackend
from dspex.execution.clients import Request
from dspex.execution.context import RunContext
from dspex.language.programs import Node, Program
from dspex.language.signatures import Signature
from dspex.testing.layouts import fill_in
from dspex.testing.scripted import ScriptedModel

Values = Mapping[str, Any] | Callable[[Request], Mapping[str, Any]]


def answering(values: Values, **options: Any) -> ScriptedModel:
    """Return a model that fills in the output fields of a prompt (chat, JSON or XML).

    `values` maps field names to answers, or is a function of the request that returns such a map.
    The value of any other field is its name.
    """

    def reply(request: Request) -> str:
        return fill_in(request, values(request) if callable(values) else values)

    return ScriptedModel(reply, **options)


def predicting(
    signature: str = "question -> answer: int", *, backend: str = "native", kind: str = "predict"
) -> Program:
    """Return a program with a single module."""
    value = Signature(signature, "Answer the question.")
    return Program(
        name="p", signature=value, root=Node(id="self", kind=kind, signature=value, backend=backend)
    )


class BackendContract:
    """Subclass it in a test module and implement `make`; pytest runs it."""

    def make(self) -> AbstractAsyncContextManager[Backend]:
        """Return the backend under test, ready inside `async with`."""
        raise NotImplementedError

    def run(self, test: Callable[[Backend, RunContext], Any]) -> None:
        """Run a test with a model that answers 3."""

        async def main() -> None:
            async with asyncio.timeout(60), self.make() as backend:
                await test(backend, RunContext(model=answering({"answer": 3})))

        asyncio.run(main())

    def test_it_has_a_name_and_declares_its_capabilities(self) -> None:
        async def test(backend: Backend, context: RunContext) -> None:
            assert backend.name
            assert isinstance(backend.capabilities, frozenset)

        self.run(test)

    def test_creating_the_same_contents_twice_gives_the_same_handle(self) -> None:
        async def test(backend: Backend, context: RunContext) -> None:
            first, again = (
                await backend.create_program(predicting()),
                await backend.create_program(predicting()),
            )
            different = await backend.create_program(predicting("question -> answer: float"))
            assert first == again != different
            assert list(await backend.list_programs()) == [first, different]

        self.run(test)

    def test_outputs_fit_the_signature_and_the_trace_contains_the_run(self) -> None:
        async def test(backend: Backend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            prediction = await backend.execute_program(handle, {"question": "1 + 2?"}, context)
            assert isinstance(prediction.answer, int)
            assert prediction.trace.spans
            assert {span.trace_id for span in prediction.trace.spans} == {prediction.trace.trace_id}

        self.run(test)

    def test_inputs_that_do_not_fit_are_refused_with_their_fields(self) -> None:
        async def test(backend: Backend, context: RunContext) -> None:
            handle = await backend.create_program(predicting("count: int -> answer: int"))
            with pytest.raises(InputError) as caught:
                await backend.execute_program(handle, {"count": "many"}, context)
            assert [error.field for error in caught.value.fields] == ["count"]
            with pytest.raises(InputError):
                await backend.execute_program(handle, {}, context)

        self.run(test)

    def test_many_runs_at_once_do_not_disturb_each_other(self) -> None:
        async def test(backend: Backend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            runs = [
                backend.execute_program(handle, {"question": str(n)}, context) for n in range(8)
            ]
            predictions = await asyncio.gather(*runs)
            assert len({prediction.trace.trace_id for prediction in predictions}) == 8

        self.run(test)

    def test_a_deleted_program_is_not_found_and_may_be_created_again(self) -> None:
        async def test(backend: Backend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            await backend.delete_program(handle)
            assert list(await backend.list_programs()) == []
            with pytest.raises(NotFoundError):
                await backend.execute_program(handle, {"question": "?"}, context)
            with pytest.raises(NotFoundError):
                await backend.delete_program(handle)
            assert await backend.create_program(predicting()) == handle
            assert (
                await backend.execute_program(handle, {"question": "?"}, context)
            ).answer is not None

        self.run(test)


ROWS = [{"question": f"q{n}", "answer": 3} for n in range(4)]


def same_answer(row: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """Return 1 if the answer is that of the row, else 0."""
    return float(row["answer"] == outputs["answer"])


class OptimizingBackendContract(BackendContract):
    """The contract of `OptimizingBackend`; implement `make`, override `bootstrapping` if needed."""

    bootstrapping = Optimization(
        optimizer="BootstrapFewShot",
        metric=same_answer,
        trainset=ROWS,
        options={"max_bootstrapped_demos": 2},
    )

    def make(self) -> AbstractAsyncContextManager[OptimizingBackend]:
        """Return the backend under test, ready inside `async with`."""
        raise NotImplementedError

    def run_optimizing(self, test: Callable[[OptimizingBackend, RunContext], Any]) -> None:
        """Run a test with a model that answers 3."""

        async def main() -> None:
            async with asyncio.timeout(120), self.make() as backend:
                await test(backend, RunContext(model=answering({"answer": 3})))

        asyncio.run(main())

    def test_it_declares_that_it_optimizes(self) -> None:
        async def test(backend: OptimizingBackend, context: RunContext) -> None:
            assert "optimizing" in backend.capabilities

        self.run_optimizing(test)

    def test_a_better_program_is_a_new_one_that_runs_and_progress_is_reported(self) -> None:
        async def test(backend: OptimizingBackend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            events: list[object] = []
            better = await backend.optimize_program(
                handle, self.bootstrapping, context, on_progress=lambda _, data: events.append(data)
            )
            assert events
            assert better.assignment["self.demos"]
            assert better.content_hash != predicting().content_hash
            assert list(await backend.list_programs()) == [handle]
            again = await backend.create_program(better)
            assert (await backend.execute_program(again, {"question": "?"}, context)).answer == 3

        self.run_optimizing(test)

    def test_rows_are_scored_in_their_order_and_a_row_that_fails_has_no_score(self) -> None:
        async def test(backend: OptimizingBackend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            model = answering(
                lambda request: {"answer": "x" if "q1" in request.messages[-1].text else 3}
            )
            rows = await backend.evaluate_program(
                handle, ROWS, same_answer, context=RunContext(model=model)
            )
            assert [row["score"] for row in rows] == [1.0, None, 1.0, 1.0]
            assert [bool(row["error"]) for row in rows] == [False, True, False, False]
            assert rows[0]["outputs"]["answer"] == 3

        self.run_optimizing(test)

    def test_a_state_is_json_and_contains_what_was_learned(self) -> None:
        async def test(backend: OptimizingBackend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            better = await backend.optimize_program(handle, self.bootstrapping, context)
            state = await backend.export_state(await backend.create_program(better))
            assert "q0" in json.dumps(state)
            assert "q0" not in json.dumps(await backend.export_state(handle))

        self.run_optimizing(test)

    def test_what_is_unknown_is_a_typed_error(self) -> None:
        async def test(backend: OptimizingBackend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            wrong = replace(self.bootstrapping, optimizer="Wizardry")
            with pytest.raises(DspexError, match="Wizardry"):
                await backend.optimize_program(handle, wrong, context)
            failing = replace(self.bootstrapping, metric=lambda row, outputs: 1 / 0)
            with pytest.raises(DefinitionError, match="the metric failed"):
                await backend.optimize_program(handle, failing, context)
            with pytest.raises(NotFoundError):
                await backend.export_state(Handle("nothing"))

        self.run_optimizing(test)
