"""A backend without models: deterministic values by type, scripted answers, delays and errors."""

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex.clock import Clock, SystemClock
from dspex.errors import SignatureError
from dspex.execution.backends.backend import BackendCapability, Handle
from dspex.execution.backends.backend_kind import BackendKind
from dspex.execution.backends.handle_cache import HandleCache
from dspex.execution.backends.reasons import reason
from dspex.execution.context import RunContext
from dspex.language.programs import Program
from dspex.language.records import Prediction, Trace
from dspex.language.signatures import MISSING, Field
from dspex.language.signatures.examples import example

Answer = Mapping[str, Any] | Exception
Script = Sequence[Answer] | Callable[[Mapping[str, Any]], Answer]


class MockBackend:
    """Runs nothing: answers fit the signature and depend only on the program and its inputs.

    `calls` holds (handle, inputs) of the last `kept_calls` calls, in order. A script replaces the
    generated values: a sequence holds one answer per call (the last one repeats), a function
    returns an answer for the inputs. An exception as an answer is raised.
    """

    name = "mock"
    capabilities: frozenset[BackendCapability] = frozenset({"deterministic"})

    def __init__(
        self,
        script: Script | None = None,
        *,
        delay: float = 0.0,
        clock: Clock | None = None,
        kept_calls: int = 1000,
    ) -> None:
        """Take the script, the seconds before each answer, and the number of calls in `calls`."""
        self.calls: deque[tuple[Handle, Mapping[str, Any]]] = deque(maxlen=kept_calls)
        self._count = 0
        self._script = script
        self._delay = delay
        self._clock = clock or SystemClock()
        self._programs: HandleCache[Program] = HandleCache()

    async def create_program(self, program: Program) -> Handle:
        """Store the program; see `Backend.create_program`."""
        return self._programs.put(Handle(program.content_hash), program)

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        """Return the next answer; see `Backend.execute_program`."""
        program = self._programs.get(handle)
        signature, why = program.signature, reason(program, self.name, context)
        values = signature.validate_inputs(inputs)
        span = context.begin("backend", self.name)
        self.calls.append((handle, values))
        self._count += 1
        try:
            if self._delay:
                await self._clock.sleep(self._delay)
            outputs = signature.validate_outputs(self._answer(handle, values))
        except BaseException as error:
            span.end(attributes=why, error=error)
            raise
        return Prediction.of_run(outputs, Trace(span.run.trace_id, (span.end(attributes=why),)))

    async def delete_program(self, handle: Handle) -> None:
        """Remove one program."""
        self._programs.delete(handle)

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._programs.handles()

    def _answer(self, handle: Handle, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._script is None:
            fields = self._programs.get(handle).signature.output_fields.values()
            return {
                field.name: _mock_value(field, f"{handle}{sorted(values.items())!r}")
                for field in fields
            }
        if callable(self._script):
            answer = self._script(values)
        else:
            answer = self._script[min(self._count, len(self._script)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _mock_value(field: Field, seed: str) -> Any:
    if field.default is not MISSING:
        return field.default
    number = int.from_bytes(
        hashlib.blake2b(f"{seed}{field.name}".encode(), digest_size=4).digest(), "big"
    )
    try:
        return example(field.type, field.name, number)
    except SignatureError as error:
        raise SignatureError(
            f"the mock cannot make up an answer for {field.name!r}: {error.message}"
        ) from error


KIND = BackendKind(
    name="mock",
    summary="returns made-up values of the right types, without a model",
    open=lambda _: MockBackend(kept_calls=0),  # inputs are private, and a server runs forever
)
