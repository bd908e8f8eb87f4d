"""Native programs in supervised workers: code that may crash, hang or leak does so there (`isolation: process`)."""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from dspex.errors import ConfigurationError
from dspex.execution.backends.backend import BackendCapability, Handle
from dspex.execution.backends.held import Held
from dspex.execution.backends.outputs import checked_outputs
from dspex.execution.backends.reasons import reason
from dspex.execution.backends.remote import Answerer, about, model_of, sendable
from dspex.execution.backends.telling import Telling
from dspex.execution.context import ADAPTERS, RunContext, TraceRecorder, call_guarded
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import LoadRequest, Pool, PoolConfig, PoolStats, WorkerSpec
from dspex.language.programs import Program
from dspex.language.records import Prediction
from dspex.telemetry import Observer

HOST = Path(__file__).parent / "native_host.py"


class IsolatedBackend:
    """Runs native programs in workers of this interpreter; models answer in this process, keys stay here.

    Owned by one event loop; `async with` starts and ends its workers. The trace is that of a run in this process, below
    the backend's span; streaming shows what it would show here.
    """

    name = "isolated"

    def __init__(
        self,
        *,
        code: CodeRoot | None = None,
        pool: PoolConfig | None = None,
        seconds: float | None = None,
        memory_limit: int | None = None,
        observer: Observer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Take where code programs are imported from, in the workers only, and a deadline for every call."""
        found: tuple[BackendCapability, ...] = ("isolation",) if code is None else ("isolation", "code_programs")
        self.capabilities: frozenset[BackendCapability] = frozenset(found)
        config = {} if code is None else {"code": {"folder": str(code.folder), "name": code.name}}
        spec = WorkerSpec(
            host=HOST, interpreter=sys.executable, config=config, concurrency=4, memory_limit=memory_limit
        )
        self._pool = Pool(pool or PoolConfig(name="native", maximum=2, spares=1), spec, observer=observer, rng=rng)
        self._seconds = seconds
        self._programs: Held[tuple[Program, LoadRequest]] = Held()

    async def __aenter__(self) -> "IsolatedBackend":
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.stop()

    def stats(self) -> PoolStats:
        """Return what every worker does at this moment."""
        return self._pool.stats()

    async def create_program(self, program: Program) -> Handle:
        """Build the program in a worker; see `Backend.create_program`."""
        handle = Handle(program.content_hash)
        if not self._programs.touch(handle):
            args = {"program": program.to_dict()}
            loading = LoadRequest(handle=handle, args=args)
            await self._pool.call("create_program", args, seconds=self._seconds, program=loading)
            self._programs.put(handle, (program, loading))
        return handle

    async def execute_program(self, handle: Handle, inputs: Mapping[str, Any], context: RunContext) -> Prediction:
        """Run a program once in a worker; see `Backend.execute_program`."""
        if context.is_bounded:
            return await call_guarded(context, lambda inside: self.execute_program(handle, inputs, inside))
        program, loading = self._programs.get(handle)
        attempt = context.rollout
        context = replace(context, rollout=0) if attempt else context  # the worker counts on from there
        validator = program.signature.input_validator
        model = model_of(context, None)
        args = {
            "handle": handle,
            "inputs": validator.dump(sendable(validator(inputs))),
            "model": about(model),
            "adapter": _named(context),
            "seed": context.seed,
            "rollout": attempt,
            "stream": context.emit is not None,
            "note": context.note is not None,
        }
        run = context.run or TraceRecorder(context.observer, context.clock, {})
        first = len(run.spans)
        span = run.begin("backend", self.name, parent_id=context.parent_id, path=context.path or "self")
        telling = None if context.emit is None else Telling(context.emit)
        answerer = Answerer(context=context, span=span, model=model, telling=telling)
        why = reason(program, self.name, context)
        try:
            answer = await self._pool.call(
                "execute_program", args, seconds=self._seconds, handler=answerer, program=loading
            )
            if telling is not None:
                await telling.flush()
            outputs = checked_outputs(program, answer["outputs"])
        except BaseException as error:
            span.end(attributes=why, error=error)
            raise
        span.end(attributes=why)
        return Prediction.of_run(outputs, run.trace(span.id, first=first))

    async def delete_program(self, handle: Handle) -> None:
        """Forget one program, here and in every worker."""
        self._programs.delete(handle)
        self._pool.forget(handle)
        await self._pool.broadcast("delete_program", {"handle": handle})

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._programs.handles()


def _named(context: RunContext) -> str | None:
    """Return the name of the context's adapter, which is all that a worker can be told of it."""
    if context.adapter is not None and context.adapter not in ADAPTERS.values():
        raise ConfigurationError(
            f"the adapter {context.adapter.name!r} is an object of your own, which stays in this process; set one of "
            f"{', '.join(ADAPTERS)}, or run the program natively"
        )
    return None if context.adapter is None else context.adapter.name
