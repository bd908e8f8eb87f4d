"""The host of native programs in a worker: builds them from their code root and asks the parent's model.

Loaded by path in a worker whose interpreter has dspex; nothing in the parent imports it.
"""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from dspex.clock import SystemClock
from dspex.errors import ExecutionError, NotFoundError
from dspex.execution.backends.remote import not_finite
from dspex.execution.clients import Capability, Request, Response
from dspex.execution.context import OpenSpan, RunContext, TraceRecorder, find_adapter
from dspex.execution.modules import CodeRoot, Module, Predict, build
from dspex.execution.modules.instances import with_instances
from dspex.language.programs import Program
from dspex.language.records import Span, SpanKind
from dspex.language.signatures.codec import plain
from dspex.language.signatures.instances import as_json, holds_binary
from dspex.telemetry import Silent, Status, StreamEvent

Fields = dict[str, dict[str, str]]
LIMIT = 256  # spans of one call; a program that loops must not fill the reply
_asking: "ContextVar[tuple[int | None, str]]" = ContextVar("dspex_asking", default=(None, ""))


class LocalRun(TraceRecorder):
    """The record of a run in a worker. The spans of model calls are the parent's; here is known which module asks."""

    __slots__ = ()

    def begin(self, kind: SpanKind, name: str, *, parent_id: int | None, path: str) -> OpenSpan:
        """Begin a span; see `TraceRecorder.begin`."""
        if kind == "model":
            _asking.set((parent_id, path))
        return super().begin(kind, name, parent_id=parent_id, path=path)

    def told(self) -> list[tuple[Any, ...]]:
        """Return the spans as the parent takes them."""
        return [_told(span) for span in self.spans if span.kind != "model"][-LIMIT:]


def _told(span: Span) -> tuple[Any, ...]:
    attributes = plain(span.attributes)
    times = (span.start_ns, span.end_ns)
    return (span.span_id, span.parent_id, span.kind, span.name, span.path, *times, span.error, attributes)


class ParentModel:
    """The parent's model, as a program in a worker sees it. It lives for one call."""

    def __init__(self, call: Any, about: dict[str, Any], fields: Fields, *, own: str | None = None) -> None:  # noqa: ANN401
        """Take the call that the program runs for, and what the model is.

        Args:
            call: the runtime's.
            about: name and capabilities.
            fields: the output fields of predictors by path, where somebody listens.
            own: the model string of a module that has its own.
        """
        self._own = own
        self.name: str = about["name"]
        self.capabilities: frozenset[Capability] = frozenset(about["capabilities"]) - {"streaming"}
        self._call = call
        self._fields = fields

    async def complete(self, request: Request) -> Response:
        """Ask the parent, which streams to its own listener."""
        span, path = _asking.get()
        asked: dict[str, Any] = {"request": msgspec.to_builtins(request), "model": self._own}
        asked |= {"span": span, "path": path}
        if path in self._fields:
            asked["fields"] = self._fields[path]
        answer = await asyncio.to_thread(self._call.callback, "complete", asked)
        return msgspec.convert(answer, Response)

    async def aclose(self) -> None:
        """Do nothing: the parent owns the model."""


class NativeHost:
    """Native programs behind the commands of a worker."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Take the code root, where there is one."""
        folder = config.get("code")
        self._code = CodeRoot(Path(folder["folder"]), folder["name"]) if folder else None
        self._modules: dict[str, Module] = {}
        self.commands = {
            "create_program": self._create,
            "execute_program": self._execute,
            "delete_program": self._delete,
        }

    def describe(self) -> dict[str, Any]:
        """What the handshake adds."""
        return {"host": "native"}

    def _create(self, call: Any, args: dict[str, Any]) -> str:  # noqa: ANN401
        program = Program.from_dict(args["program"])
        if program.content_hash not in self._modules:
            self._modules[program.content_hash] = build(program, code=self._code)
        return program.content_hash

    def _execute(self, call: Any, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        module, clock = self._modules.get(args["handle"]), SystemClock()
        if module is None:
            raise NotFoundError(f"this worker holds no program {args['handle']!r}; create it first")
        parts = dict(module.named_modules())
        run = LocalRun(Silent(), clock, {id(part): path for path, part in parts.items()})
        fields: Fields | None = _fields(module) if args.get("stream") else None

        async def emit(event: StreamEvent) -> None:
            if isinstance(event, Status) and event.state != "again":  # the rest the parent sees for itself
                call.emit("stream", {"path": event.path, "name": event.name, "state": event.state, "outputs": {}})

        noted: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

        def note(path: str, given: Mapping[str, object], answered: Mapping[str, object]) -> None:
            part = parts.get(path, module)
            noted.append((path, _plain(part, given), _plain(part, answered)))

        def model(own: str) -> ParentModel:
            return ParentModel(call, call.callback("model", {"name": own}), fields or {}, own=own)

        context = RunContext(
            model=ParentModel(call, args["model"], fields or {}),
            adapter=find_adapter(args.get("adapter")),
            models=model,
            seed=args.get("seed"),
            rollout=args.get("rollout", 0),
            clock=clock,
            run=run,
            emit=None if fields is None else emit,
            note=note if args.get("note") else None,
        )
        try:
            prediction = asyncio.run(_acall(module, context, args["inputs"]))
        finally:
            call.attach("spans", run.told())
            if noted:
                call.attach("calls", noted)
        outputs = _plain(module, prediction.to_dict())
        if said := not_finite(outputs):
            raise ExecutionError(
                f"the program answered what no JSON can say ({said.lstrip('.')}): return a finite number"
            )
        return {"outputs": outputs}

    def _delete(self, call: Any, args: dict[str, Any]) -> None:  # noqa: ANN401
        self._modules.pop(args["handle"], None)


def _plain(module: Module, values: Mapping[str, object]) -> dict[str, Any]:
    """Return inputs or outputs of a module as JSON-ready data; bytes are base64, wherever they are."""
    fields = module.contract().fields
    return {
        name: as_json(value) if name in fields and holds_binary(fields[name].type) else plain(value)
        for name, value in values.items()
    }


async def _acall(module: Module, context: RunContext, inputs: dict[str, Any]) -> Any:  # noqa: ANN401
    return await module.acall(context, **await with_instances(module, inputs))


def _fields(module: Module) -> Fields:
    """Return the output fields of each predictor by path: wire name to name."""
    return {
        path: {field.wire_name: name for name, field in part.signature.output_fields.items()}
        for path, part in module.named_modules()
        if isinstance(part, Predict)
    }


def create(config: dict[str, Any]) -> NativeHost:
    """Return the host."""
    return NativeHost(config)
