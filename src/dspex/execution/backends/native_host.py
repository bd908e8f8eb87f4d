"""The host of native programs in a worker: builds them and calls the models of the parent.

A worker whose interpreter has dspex loads it by path; nothing in the parent imports it.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dspex.clock import SystemClock
from dspex.errors import ExecutionError, NotFoundError
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.backends.parent import (
    Fields,
    Parent,
    WorkerEmbedder,
    WorkerMemory,
    WorkerModel,
    WorkerTeam,
    current_module,
)
from dspex.execution.backends.remote import find_non_finite
from dspex.execution.context import RunContext
from dspex.execution.frame import Frame, OpenSpan, TraceRecorder
from dspex.execution.modules import CodeRoot, Module, Predict, build
from dspex.execution.modules.adapter_code import load_adapters
from dspex.execution.modules.instances import with_instances
from dspex.execution.team_run import TeamLimits
from dspex.language.programs import Program
from dspex.language.records import Span, SpanKind
from dspex.language.signatures.codec import plain
from dspex.language.signatures.instances import as_json, holds_binary
from dspex.telemetry import Silent, Status, StreamEvent

LIMIT = 256  # spans in one reply; a program that loops must not fill it


class LocalRun(TraceRecorder):
    """The trace of a run in a worker. The parent records model calls; this tracks their modules."""

    __slots__ = ()

    def begin(self, kind: SpanKind, name: str, *, parent_id: int | None, path: str) -> OpenSpan:
        """Begin a span; see `TraceRecorder.begin`."""
        if kind == "model":
            current_module.set((parent_id, path))
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
        None if span.usage is None else msgspec.to_builtins(span.usage),
    )


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
            # the parent sees other events itself
            if isinstance(event, Status) and event.state != "again":
                call.emit(
                    "stream",
                    {"path": event.path, "name": event.name, "state": event.state, "outputs": {}},
                )

        calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

        def note(path: str, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
            part = parts.get(path, module)
            calls.append((path, _plain(part, inputs), _plain(part, outputs)))

        frame = Frame(
            recorder=run,
            emit=None if fields is None else emit,
            on_call=note if args.get("note") else None,
        )
        context = _context(Parent(call), args, fields or {}, frame=frame)
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


def _context(parent: Parent, args: dict[str, Any], fields: Fields, *, frame: Frame) -> RunContext:
    """Return the context of a run, whose models, embedders and people are those of the parent."""

    def model(name: str) -> WorkerModel:
        about = parent.ask_now("model", {"name": name})
        return WorkerModel(parent, about, fields, model=name)

    team = None
    if "team" in args:
        team = WorkerTeam(parent, TeamLimits.from_dict(args["team"]))
    durable = None
    if "durable" in args:
        durable = WorkerMemory(parent, recalls=args["durable"]["recalls"])
    return RunContext(
        model=WorkerModel(parent, args["model"], fields),
        embedder="default",  # that of the parent
        embedders=partial(WorkerEmbedder, parent),
        adapter=find_adapter(args.get("adapter")),
        models=model,
        seed=args.get("seed"),
        rollout=args.get("rollout", 0),
        clock=SystemClock(),
        answer=parent.answer,
        frame=msgspec.structs.replace(frame, team=team, durable=durable),
    )


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
