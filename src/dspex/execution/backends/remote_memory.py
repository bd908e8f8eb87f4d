"""The memory of a durable run for a program in a worker: its calls and its questions."""

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any

from dspex.errors import WorkerProtocolError
from dspex.execution.ask import answer_in, answer_outputs
from dspex.execution.context import RunContext
from dspex.execution.question import Question
from dspex.language.signatures import Signature


class RemoteMemory:
    """What one call of a worker has in progress; see `DurableRun`. Owned by one event loop.

    Each call that the worker reports is a task here, which waits for its result. So the run
    suspends only when all that is in progress waits for people, as it does in one process.
    """

    def __init__(self, context: RunContext) -> None:
        """Take the context of the run."""
        self._context = context
        self._results: dict[int, asyncio.Future[Any]] = {}
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._places: dict[int, contextvars.Context] = {}

    def about(self) -> dict[str, Any]:
        """Return what the worker has to know, empty if the run cannot wait."""
        durable = self._context.frame.durable
        return {} if durable is None else {"durable": {"recalls": durable.recalls}}

    async def recall(self, data: Mapping[str, Any]) -> Any:
        """Return the result of this call in an earlier run."""
        durable = self._context.frame.durable
        if durable is None:
            return None
        return await durable.recall(data["kind"], lambda: data["key"])

    def begin(self, data: Mapping[str, Any]) -> None:
        """Begin a call of the worker, inside the call `outer`."""
        durable = self._context.frame.durable
        if durable is None:
            return
        number, kind, key = data["number"], data["kind"], data["key"]
        outer = self._places.get(data["outer"])
        place = contextvars.copy_context() if outer is None else outer.copy()
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        work = durable.perform(kind, lambda: key, result, encode=lambda value: value)
        task = asyncio.get_running_loop().create_task(work, context=place)
        self._results[number], self._tasks[number] = result, task
        self._places[number] = place

    async def end(self, data: Mapping[str, Any]) -> None:
        """Remember the result of a call, which is JSON."""
        number = data["number"]
        task = self._tasks.get(number)
        if task is None:
            raise WorkerProtocolError(f"the worker ended call {number}, which it has not begun")
        self._results[number].set_result(data["result"])
        await task
        self._forget(number)

    def fail(self, number: int) -> None:
        """End a call that has no result."""
        if (task := self._tasks.get(number)) is not None:
            task.cancel()
            self._forget(number)

    def _forget(self, number: int) -> None:
        del self._tasks[number], self._results[number], self._places[number]

    async def ask(self, data: Mapping[str, Any]) -> Any:
        """Return the answer to a question that the worker asks, perhaps inside one of its calls.

        Raises:
            QuestionExpiredError: nobody answered in time.
            WaitingForAnswerError: nobody can answer here, or the answer does not fit.
        """
        signature = Signature.from_dict(data["signature"])
        question = Question(
            signature=signature,
            inputs=signature.validate_inputs(data["inputs"]),
            kind=data["kind"],
            ttl=data["ttl"],
        )
        answer = answer_in(self._context, question)
        place = self._places.get(data["effect"])
        if place is None:
            outputs = await answer
        else:
            task = asyncio.get_running_loop().create_task(answer, context=place)
            try:
                outputs = await task
            finally:
                task.cancel()
        return signature.output_validator.dump(answer_outputs(question, outputs))

    def close(self) -> None:
        """End all calls: the worker has ended the run, or is gone."""
        for number in [*self._tasks]:
            self.fail(number)
