"""What every backend has to do, and a model that answers whatever it is asked for."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from dspex.errors import InvalidError, NotFoundError
from dspex.execution.backends import Backend
from dspex.execution.clients import Request
from dspex.execution.context import RunContext
from dspex.language.programs import Node, Program
from dspex.language.signatures import Signature
from dspex.testing.scripted import ScriptedModel

Values = Mapping[str, Any] | Callable[[Request], Mapping[str, Any]]
_CHAT = re.compile(r"`\[\[ ## (\w+) ## \]\]`")
_JSON = re.compile(r"`(\w+)`")


def answering(values: Values, **options: Any) -> ScriptedModel:  # noqa: ANN401
    """Return a model that reads from a prompt, in chat or JSON layout, which fields are wanted, and gives them.

    `values` maps field names to answers, or is a function of the request that does; other fields are answered with
    their own names.
    """

    def reply(request: Request) -> str:
        told = values(request) if callable(values) else values
        last = request.messages[-1].content.rpartition("Respond with")[2]
        chat = [name for name in _CHAT.findall(last) if name != "completed"]
        if chat:
            parts = [f"[[ ## {name} ## ]]\n{_text(told.get(name, name))}" for name in chat]
            return "\n\n".join([*parts, "[[ ## completed ## ]]"])
        return json.dumps({name: told.get(name, name) for name in _JSON.findall(last)})

    return ScriptedModel(reply, **options)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def predicting(
    signature: str = "question -> answer: int", *, backend: str = "native", kind: str = "predict"
) -> Program:
    """Return a program of one module."""
    value = Signature(signature, "Answer the question.")
    return Program(name="p", signature=value, root=Node(id="self", kind=kind, signature=value, backend=backend))


class BackendContract:
    """Subclass it in a test module and write `make`; pytest runs it."""

    def make(self) -> AbstractAsyncContextManager[Backend]:
        """Return the backend under test, ready inside `async with`."""
        raise NotImplementedError

    def run(self, test: Callable[[Backend, RunContext], Any]) -> None:
        """Run one test with a model that answers 3."""

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
            first, again = await backend.create_program(predicting()), await backend.create_program(predicting())
            other = await backend.create_program(predicting("question -> answer: float"))
            assert first == again != other
            assert list(await backend.list_programs()) == [first, other]

        self.run(test)

    def test_outputs_fit_the_signature_and_the_trace_holds_the_run(self) -> None:
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
            with pytest.raises(InvalidError) as caught:
                await backend.execute_program(handle, {"count": "many"}, context)
            assert [error.field for error in caught.value.fields] == ["count"]
            with pytest.raises(InvalidError):
                await backend.execute_program(handle, {}, context)

        self.run(test)

    def test_many_runs_at_once_do_not_disturb_each_other(self) -> None:
        async def test(backend: Backend, context: RunContext) -> None:
            handle = await backend.create_program(predicting())
            runs = [backend.execute_program(handle, {"question": str(n)}, context) for n in range(8)]
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
            assert (await backend.execute_program(handle, {"question": "?"}, context)).answer is not None

        self.run(test)
