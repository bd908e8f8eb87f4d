"""Native programs in supervised workers, which contain crashes and leaks (`isolation: process`)."""

import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from dspex.errors import ConfigurationError
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.backend_kind import BackendKind, BackendResources
from dspex.execution.backends.event_forwarder import EventForwarder
from dspex.execution.backends.handle_cache import HandleCache
from dspex.execution.backends.lazy import LazyBackend
from dspex.execution.backends.outputs import check_outputs
from dspex.execution.backends.reasons import reason
from dspex.execution.backends.remote import Answerer, check_sendable, describe_model, model_for_run
from dspex.execution.context import RunContext, call_guarded
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import LoadRequest, Pool, PoolConfig, PoolStats, WorkerSpec
from dspex.language.programs import Program
from dspex.language.records import Prediction
from dspex.telemetry import Observer

HOST = Path(__file__).parent / "native_host.py"


class IsolatedBackend:
    """Runs native programs in workers; this process calls the models, and keys stay here.

    Owned by one event loop; `async with` starts and stops its workers. Traces and streams are the
    same as in this process, except for the span of the backend.
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
        """Take the code root, which only workers import from, and a time limit for every call."""
        self.capabilities = _capabilities(code)
        config = {} if code is None else {"code": {"folder": str(code.folder), "name": code.name}}
        spec = WorkerSpec(
            host=HOST,
            interpreter=sys.executable,
            config=config,
            concurrency=4,
            memory_limit=memory_limit,
        )
        self._pool = Pool(
            pool or PoolConfig(name="native", maximum=2, spares=1), spec, observer=observer, rng=rng
        )
        self._seconds = seconds
        self._programs: HandleCache[tuple[Program, LoadRequest]] = HandleCache()

    async def __aenter__(self) -> "IsolatedBackend":
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.stop()

    def stats(self) -> PoolStats:
        """Return a snapshot of the workers."""
        return self._pool.stats()

    async def create_program(self, program: Program) -> Handle:
        """Build the program in a worker; see `Backend.create_program`."""
        handle = Handle(program.content_hash)
        if not self._programs.touch(handle):
            args = {
                "program": program.to_dict(),
                "adapters": ADAPTERS.targets(program.to_json()),
            }
            load_request = LoadRequest(handle=handle, args=args)
            await self._pool.call(
                "create_program", args, seconds=self._seconds, program=load_request
            )
            self._programs.put(handle, (program, load_request))
        return handle

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        """Run a program once in a worker; see `Backend.execute_program`."""
        if context.is_bounded:
            return await call_guarded(
                context, lambda inside: self.execute_program(handle, inputs, inside)
            )
        program, load_request = self._programs.get(handle)
        attempt = context.rollout
        # the worker continues from there
        context = msgspec.structs.replace(context, rollout=0) if attempt else context
        validator = program.signature.input_validator
        model, adapter = model_for_run(context, None), _adapter_name(context)
        args = {
            "handle": handle,
            "inputs": validator.dump(check_sendable(validator(inputs))),
            "model": describe_model(model),
            "adapter": adapter,
            "adapters": {} if adapter is None else ADAPTERS.targets(f'"{adapter}"'),
            "seed": context.seed,
            "rollout": attempt,
            "stream": context.frame.emit is not None,
            "note": context.frame.on_call is not None,
        }
        if context.frame.team is not None:
            args["team"] = context.frame.team.remaining().to_dict()
        span = context.begin("backend", self.name)
        first = len(span.run.spans)
        forwarder = None if context.frame.emit is None else EventForwarder(context.frame.emit)
        answerer = Answerer(context=context, span=span, model=model, forwarder=forwarder)
        args |= answerer.memory.about()
        why = reason(program, self.name, context)
        try:
            answer = await self._pool.call(
                "execute_program",
                args,
                seconds=self._seconds,
                handler=answerer,
                program=load_request,
            )
            if forwarder is not None:
                await forwarder.flush()
            outputs = check_outputs(program, answer["outputs"])
        except BaseException as error:
            span.end(attributes=why, error=error)
            raise
        finally:
            answerer.memory.close()
        span.end(attributes=why)
        return Prediction.of_run(outputs, span.run.trace(span.id, first=first))

    async def delete_program(self, handle: Handle) -> None:
        """Remove one program, here and in every worker."""
        self._programs.delete(handle)
        self._pool.forget(handle)
        await self._pool.broadcast("delete_program", {"handle": handle})

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._programs.handles()


def _capabilities(code: CodeRoot | None) -> frozenset[BackendCapability]:
    return frozenset({"isolation"} if code is None else {"isolation", "code_programs"})


def _adapter_name(context: RunContext) -> str | None:
    """Return the name of the context's adapter; a worker can only use adapters that have a name."""
    if context.adapter is not None and not ADAPTERS.holds(context.adapter):
        raise ConfigurationError(
            f"the adapter {context.adapter.name!r} is a custom object, which workers cannot use; "
            "register it with dspex.adapters.register_adapter, set one of "
            f"{', '.join(ADAPTERS)}, or run the program natively"
        )
    return None if context.adapter is None else context.adapter.name


def _open(resources: BackendResources) -> Backend:
    def create() -> IsolatedBackend:
        settings = resources.settings
        pool = PoolConfig(
            name="isolated", minimum=1, maximum=settings["workers"], spares=resources.spares
        )
        return IsolatedBackend(
            code=resources.code,
            pool=pool,
            memory_limit=settings["worker_memory_mb"] << 20 or None,
            observer=resources.observer,
        )

    return LazyBackend(KIND.name, _capabilities(resources.code), create)


KIND = BackendKind(
    name="isolated",
    summary="runs programs in workers, which contain crashes and leaks",
    open=_open,
    settings=("workers", "worker_memory_mb"),
)
