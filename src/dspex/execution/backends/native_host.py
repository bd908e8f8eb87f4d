"""The host of native programs in a worker: builds them and calls the models of the parent.

A worker whose interpreter has dspex loads it by path; nothing in the parent imports it.
"""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from dspex.clock import SystemClock
from dspex.errors import ExecutionError, NotFoundError
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.backends.remote import find_non_finite
from dspex.execution.clients import Capability, Request, Response
from dspex.execution.context import RunContext
from dspex.execution.frame import Frame, OpenSpan, TraceRecorder
from dspex.execution.modules import CodeRoot, Module, Predict, build
from dspex.execution.modules.adapter_code import load_adapters
from dspex.execution.modules.instances import with_instances
from dspex.execution.team_run import TeamLimits, TeamRun
from dspex.language.programs import Program
from dspex.language.records import Span, SpanKind
from dspex.language.signatures.codec import plain
from dspex.language.signatures.instances import as_json, holds_binary
from dspex.telemetry import Silent, Status, StreamEvent

Fields = dict[str, dict[str, str]]
LIMIT = 256  # spans in one reply; a program that loops must not fill it
_current_module: "ContextVar[tuple[int | None, str]]" = ContextVar(
    "dspex_current_module", default=(None, "")
)


class LocalRun(TraceRecorder):
    """The trace of a run in a worker. The parent records model calls; this tracks their modules."""

    __slots__ = ()

    def begin(self, kind: SpanKind, name: str, *, parent_id: int | None, path: str) -> OpenSpan:
        """Begin a span; see `TraceRecorder.begin`."""
        if kind == "model":
            _current_module.set((parent_id, path))
        return super().begin(kind, name, parent_id=parent_id, path=path)

    def span_rows(self) -> list[tuple[Any, ...]]:
        """Return the spans in the form that the parent reads."""
        return [_span_row(span) for span in self.spans if span.kind != "model"][-LIMIT:]


def _span_row(span: Span) -> tuple[Any, ...]:
    attributes = plain(span.attributes)
    times = (span.start_ns, span.end_ns)
    return (
        span.span_id,
        span.parent_id,
        span.kind,
        span.name,
        span.path,
        *times,
        span.error,
        attributes,
    )


class WorkerModel:
    """The parent's model as a program in a worker sees it, for one call."""

    def __init__(
        self,
        call: Any,
        about: dict[str, Any],
        fields: Fields,
        *,
        model: str | None = None,
    ) -> None:
        """Take the call that the program runs for, and the model.

        Args:
            call: the runtime's call.
            about: name and capabilities of the model.
            fields: the output fields of predictors by path, empty without a listener.
            model: the model string of a module with its own model.
        """
        self._model = model
        self.name: str = about["name"]
        self.capabilities: frozenset[Capability] = frozenset(about["capabilities"]) - {"streaming"}
        self._call = call
        self._fields = fields

    async def complete(self, request: Request) -> Response:
        """Call the model through the parent, which streams to its own listener."""
        span, path = _current_module.get()
        request_data: dict[str, Any] = {
            "request": msgspec.to_builtins(request),
            "model": self._model,
        }
        request_data |= {"span": span, "path": path}
        if path in self._fields:
            request_data["fields"] = self._fields[path]
        answer = await asyncio.to_thread(self._call.callback, "complete", request_data)
        return msgspec.convert(answer, Response)

    async def aclose(self) -> None:
        """Do nothing: the parent owns the model."""


class NativeHost:
    """Native programs behind the commands of a worker."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Take the code root, if the configuration has one."""
        folder = config.get("code")
        self._code = CodeRoot(Path(folder["folder"]), folder["name"]) if folder else None
        self._modules: dict[str, Module] = {}
        self.commands = {
            "create_program": self._create,
            "execute_program": self._execute,
            "delete_program": self._delete,
        }

    def describe(self) -> dict[str, Any]:
        """Return the host's part of the handshake."""
        return {"host": "native"}

    def _create(self, call: Any, args: dict[str, Any]) -> str:
        program = Program.from_dict(args["program"])
        load_adapters(args.get("adapters", {}), self._code)
        if program.content_hash not in self._modules:
            self._modules[program.content_hash] = build(program, code=self._code)
        return program.content_hash

    def _execute(self, call: Any, args: dict[str, Any]) -> dict[str, Any]:
        module, clock = self._modules.get(args["handle"]), SystemClock()
        if module is None:
            raise NotFoundError(f"this worker holds no program {args['handle']!r}; create it first")
        load_adapters(args.get("adapters", {}), self._code)
        parts = dict(module.named_modules())
        run = LocalRun(Silent(), clock, {id(part): path for path, part in parts.items()})
        fields: Fields | None = _fields(module) if args.get("stream") else None

        async def emit(event: StreamEvent) -> None:
            if (
                isinstance(event, Status) and event.state != "again"
            ):  # the parent sees other events itself
                call.emit(
                    "stream",
                    {"path": event.path, "name": event.name, "state": event.state, "outputs": {}},
                )

        calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

        def note(path: str, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
            part = parts.get(path, module)
            calls.append((path, _plain(part, inputs), _plain(part, outputs)))

        def model(name: str) -> WorkerModel:
            return WorkerModel(
                call, call.callback("model", {"name": name}), fields or {}, model=name
            )

        context = RunContext(
            model=WorkerModel(call, args["model"], fields or {}),
            adapter=find_adapter(args.get("adapter")),
            models=model,
            seed=args.get("seed"),
            rollout=args.get("rollout", 0),
            clock=clock,
            frame=Frame(
                recorder=run,
                emit=None if fields is None else emit,
                on_call=note if args.get("note") else None,
                team=TeamRun(TeamLimits.from_dict(args["team"])) if "team" in args else None,
            ),
        )
        try:
            prediction = asyncio.run(_acall(module, context, args["inputs"]))
        finally:
            call.attach("spans", run.span_rows())
            if calls:
                call.attach("calls", calls)
        outputs = _plain(module, prediction.to_dict())
        if place := find_non_finite(outputs):
            raise ExecutionError(
                f"the program returned a value that JSON cannot represent ({place.lstrip('.')}): "
                "return a finite number"
            )
        return {"outputs": outputs}

    def _delete(self, call: Any, args: dict[str, Any]) -> None:
        self._modules.pop(args["handle"], None)


def _plain(module: Module, values: Mapping[str, object]) -> dict[str, Any]:
    """Return inputs or outputs of a module as JSON-ready data, with all bytes as base64."""
    fields = module.contract().fields
    return {
        name: as_json(value) if name in fields and holds_binary(fields[name].type) else plain(value)
        for name, value in values.items()
    }


async def _acall(module: Module, context: RunContext, inputs: dict[str, Any]) -> Any:
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
