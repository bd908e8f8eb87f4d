"""Runs programs on the real dspy, in supervised workers."""

import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from dspex.errors import (
    AdapterError,
    DefinitionError,
    DspexError,
    ExecutionError,
    StaleCodeError,
)
from dspex.execution.adapters import read_row
from dspex.execution.backends.backend import BackendCapability, Handle
from dspex.execution.backends.dspy_bridge.answers import native_error, read_outputs
from dspex.execution.backends.dspy_bridge.definitions import (
    adapter_of,
    lower,
    models_of,
    setting,
    space_of,
    state_mismatch,
    to_program,
    values_of,
    with_learned_values,
)
from dspex.execution.backends.dspy_bridge.functions import Callables, Functions
from dspex.execution.backends.event_forwarder import EventForwarder
from dspex.execution.backends.handle_cache import HandleCache
from dspex.execution.backends.optimization import Optimization, Progress
from dspex.execution.backends.reasons import reason
from dspex.execution.backends.remote import (
    Answerer,
    LoadHandler,
    Metric,
    Tools,
    check_sendable,
    describe_model,
    model_for_run,
    score_row,
)
from dspex.execution.clients import LanguageModel
from dspex.execution.context import RunContext, call_guarded, current
from dspex.execution.frame import OpenSpan
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.citations import CitedCall, citation_plan, cite
from dspex.execution.workers import (
    CallHandler,
    LoadRequest,
    Pool,
    PoolConfig,
    PoolStats,
    WorkerSpec,
)
from dspex.language.programs import ROOT, Node, Program
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.telemetry import Observer

HOST = Path(__file__).parent / "child"
_ADAPTERS = ("chat", "json", "xml")
"""Those that dspy has, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DspyConfig:
    """The interpreter with dspy, the import paths of user modules, and the number of workers.

    Two backends with two interpreters run two versions of dspy side by side. `interface` is how
    dspy calls its model: through `BaseLM.forward` (3.3 and 3.4) or an engine (3.4, and the only way
    in 3.5); "auto" chooses one that the version has.
    """

    interpreter: str = sys.executable
    paths: tuple[str, ...] = ()
    pool: PoolConfig = field(
        default_factory=lambda: PoolConfig(name="dspy", minimum=1, maximum=2, spares=1)
    )
    concurrency: int = 4
    interface: Literal["auto", "forward", "engine"] = "auto"
    memory_limit: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class _LoadedProgram:
    program: Program
    load_request: LoadRequest
    callables: Callables
    models: tuple[str, ...]
    adapter: str | None


class DspyBackend:
    """Creates dspy modules from definitions and runs them in workers; models and tools run here.

    Owned by one event loop; `async with` starts and stops its workers. Kinds: those of
    `kinds_on("dspy")`, among them `dspy` for a module that a user wrote.
    """

    name = "dspy"
    capabilities: frozenset[BackendCapability] = frozenset(
        {"code_programs", "streaming", "isolation", "optimizing"}
    )

    def __init__(
        self,
        config: DspyConfig | None = None,
        *,
        tools: Tools | None = None,
        code: CodeRoot | None = None,
        observer: Observer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Take the tools by name, and the code root of tools that programs name by target.

        `async with` starts the workers.
        """
        self.config = config or DspyConfig()
        self._functions = Functions(tools or {}, code)
        self._programs: HandleCache[_LoadedProgram] = HandleCache()
        self._cache = Path(tempfile.gettempdir()) / f"dspex-dspy-{uuid.uuid4().hex}"
        spec = WorkerSpec(
            host=HOST,
            interpreter=self.config.interpreter,
            paths=self.config.paths,
            config={"interface": self.config.interface},
            concurrency=self.config.concurrency,
            memory_limit=self.config.memory_limit,
            # without the first, dspy 3.4 downloads a price list at its first call; without the
            # second it writes to the user's cache folder
            environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DSPY_CACHEDIR": str(self._cache)},
        )
        self._pool = Pool(self.config.pool, spec, observer=observer, rng=rng)

    async def __aenter__(self) -> "DspyBackend":
        self._cache.mkdir(mode=0o700)
        try:
            await self._pool.__aenter__()
        except BaseException:
            shutil.rmtree(self._cache, ignore_errors=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.stop()
        shutil.rmtree(self._cache, ignore_errors=True)

    @property
    def version(self) -> str:
        """The version of dspy in the workers."""
        return str(self._pool.about.get("dspy", ""))

    def stats(self) -> PoolStats:
        """Return a snapshot of the workers."""
        return self._pool.stats()

    async def create_program(self, program: Program) -> Handle:
        """Create the root of the program as a dspy module; see `Backend.create_program`."""
        handle = Handle(program.content_hash)
        if not self._programs.touch(handle):
            definition, callables = lower(program, self._functions)
            args = {"handle": handle, "definition": definition}
            load_request = LoadRequest(handle=handle, args=args)
            handler = LoadHandler(current())
            await self._call("create_program", args, handler=handler, program=load_request)
            self._programs.put(
                handle,
                _LoadedProgram(
                    program, load_request, callables, models_of(program), adapter_of(program)
                ),
            )
        return handle

    async def execute_program(
        self,
        handle: Handle,
        inputs: Mapping[str, Any],
        context: RunContext,
        *,
        on_event: Progress | None = None,
    ) -> Prediction:
        """Run a program once; `on_event` gets events of predictors; see `Backend`."""
        if context.is_bounded:
            return await call_guarded(
                context,
                lambda inside: self.execute_program(handle, inputs, inside, on_event=on_event),
            )
        loaded = self._programs.get(handle)
        signature = loaded.program.signature
        values = check_sendable(signature.validate_inputs(inputs))
        dumped = signature.input_validator.dump(values)
        cited = None if loaded.program.root.kind == "dspy" else cite(signature, values)
        if cited is not None:
            dumped |= {name: cited.inputs[name] for name in cited.plan.inputs}
        args = {
            "inputs": {signature.fields[name].wire_name: value for name, value in dumped.items()}
        }
        recorder = context.frame.recorder
        first = 0 if recorder is None else len(recorder.spans)
        answer, span = await self._run(
            loaded, "execute_program", args, context=context, events=on_event, cited=cited
        )
        outputs = read_outputs(loaded.program, answer, cited)
        return Prediction.of_run(outputs, span.run.trace(span.id, first=first))

    async def _call(
        self,
        command: str,
        args: Mapping[str, Any],
        *,
        handler: CallHandler | None = None,
        program: LoadRequest | None = None,
    ) -> Any:
        """Make one call; retry it once on new workers if the worker has loaded outdated code."""
        options: dict[str, Any] = {
            "seconds": self.config.seconds,
            "handler": handler,
            "program": program,
        }
        with contextlib.suppress(StaleCodeError):
            return await self._pool.call(command, args, **options)
        self._pool.recycle("the code of a program has changed")
        return await self._pool.call(command, args, **options)

    async def _run(
        self,
        loaded: _LoadedProgram,
        command: str,
        args: Mapping[str, Any],
        *,
        context: RunContext,
        events: Progress | None = None,
        metric: Metric | None = None,
        cited: CitedCall | None = None,
    ) -> tuple[Any, OpenSpan]:
        model = model_for_run(context, setting(loaded.program.root, "model"))
        adapter = _adapter_for(loaded, context, model)
        span = context.begin("backend", self.name)
        answerer = Answerer(
            context=context,
            span=span,
            model=model,
            tools=loaded.callables.tools,
            rewards=loaded.callables.rewards,
            metric=metric,
        )
        if events is not None:
            answerer.on_progress = events
        if context.frame.emit is not None:
            answerer.forwarder = EventForwarder(context.frame.emit)
        message = {
            "handle": loaded.load_request.handle,
            "model": describe_model(model),
            "models": {name: describe_model(context.model_for(name)) for name in loaded.models},
            "adapter": adapter,
            "stream": events is not None or context.frame.emit is not None,
            "note": context.frame.on_call is not None,
            **args,
        }
        program = loaded.program
        attributes = {
            "dspy": self.version,
            "kind": program.root.kind,
            **reason(program, self.name, context),
        }
        try:
            answer = await self._call(
                command, message, handler=answerer, program=loaded.load_request
            )
            if answerer.forwarder is not None:
                await answerer.forwarder.flush()
        except BaseException as error:
            span.end(attributes=attributes, error=error)
            # dspy 3.3 has no specific error for a wrong choice
            if type(error) in {AdapterError, ExecutionError} and (
                reply_error := native_error(program, answerer.reply, cited)
            ):
                raise reply_error from error
            raise
        finally:
            answerer.memory.close()
        span.end(attributes=attributes)
        return answer, span

    async def optimize_program(
        self,
        handle: Handle,
        work: Optimization,
        context: RunContext,
        *,
        on_progress: Progress | None = None,
    ) -> Program:
        """Run one of dspy's optimizers and return an improved copy of the program.

        dspy resets a program before most searches, so predictors with their own model are searched
        on the model of the run. Cancelling stops the worker within a second. A failing metric ends
        the search, because dspy would continue without that score.

        Raises:
            DefinitionError: an option does not fit, or the metric fails.
            ExecutionError: the optimizer failed.
        """
        loaded = self._programs.get(handle)
        _check_no_citations(loaded.program)
        args = {
            "optimizer": work.optimizer,
            "trainset": [read_row(loaded.program.signature, row) for row in work.trainset],
            "valset": [read_row(loaded.program.signature, row) for row in work.valset],
            "inputs": list(loaded.program.signature.input_fields),
            "options": dict(work.options),
            "compile": dict(work.compile),
        }
        metric_errors: list[DspexError] = []

        async def score(
            row: Mapping[str, Any], outputs: Mapping[str, Any]
        ) -> float | dict[str, Any]:
            try:
                return await score_row(work.metric, row, outputs)
            except DspexError as error:
                metric_errors.append(error)
                search.cancel()
                raise

        run = self._run(
            loaded, "optimize_program", args, context=context, events=on_progress, metric=score
        )
        search = asyncio.ensure_future(run)
        try:
            answer, _ = await search
        except asyncio.CancelledError:
            if metric_errors:
                raise metric_errors[0] from None
            raise
        return with_learned_values(loaded.program, answer["predictors"])

    async def evaluate_program(
        self,
        handle: Handle,
        rows: Sequence[Mapping[str, Any]],
        metric: Metric,
        *,
        context: RunContext,
        on_progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """Run a program on every row; a failed row has `error` set and no score."""
        loaded = self._programs.get(handle)
        _check_no_citations(loaded.program)
        signature = loaded.program.signature
        args = {
            "rows": [read_row(signature, row) for row in rows],
            "inputs": list(signature.input_fields),
        }
        answer, _ = await self._run(
            loaded, "evaluate_program", args, context=context, events=on_progress, metric=metric
        )
        return list(answer["rows"])

    async def export_state(self, handle: Handle) -> dict[str, Any]:
        """Return the state of the program as dspy's `save` writes it, without keys."""
        loaded = self._programs.get(handle)
        args = {"handle": handle}
        return dict(await self._call("export_state", args, program=loaded.load_request))

    async def import_program(
        self,
        target: str,
        *,
        init: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        signature: Signature | None = None,
        name: str = "",
    ) -> Program:
        """Return a user's dspy module ("pkg.mod:Name" under `paths`) as a program with a state.

        Without `signature`, its inputs are the parameters of `forward` and its outputs are the
        fields of every prediction that `forward` returns, as read from its source.

        Raises:
            DefinitionError: the target cannot be imported or is not a dspy module, or the state
                belongs to another program.
        """
        config: dict[str, Any] = {
            "target": target,
            "init": dict(init or {}),
            "dspy": self._requirement(),
        }
        described = await self._describe_with_state({"kind": "dspy", **config}, state)
        if source := described.get("source_hash"):
            config["source_hash"] = source
        node = Node(id=str(ROOT), kind="dspy", backend="dspy", config=_with_state(config, state))
        return to_program(described, node, signature=signature, name=name)

    async def import_state(self, program: Program, state: Mapping[str, Any]) -> Program:
        """Return a program of one built-in module (`program_of_thought`) with a state of dspy.

        Raises:
            DefinitionError: the state belongs to another program.
        """
        definition, _ = lower(program, self._functions)
        described = await self._describe_with_state(definition, state)
        config = _with_state({**program.root.config, "dspy": self._requirement()}, state)
        node = replace(program.root, backend="dspy", config=config)
        predictors = described["predictors"]
        return replace(
            program, root=node, space=space_of(predictors), assignment=values_of(predictors)
        )

    def _requirement(self) -> str:
        major, minor, *_ = (*self.version.split("."), "", "")
        return f"=={major}.{minor}.*"

    async def _describe_with_state(
        self, definition: Mapping[str, Any], state: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        """Return a worker's description of a program with `state`; the worker unloads it again."""
        described = await self._describe(definition)
        if state is None:
            return described
        predictors = {key: value for key, value in state.items() if key != "metadata"}
        if problem := state_mismatch(predictors, described):
            raise DefinitionError(f"{problem}; give the module whose state was saved")
        return await self._describe({**definition, "state": predictors})

    async def _describe(self, definition: Mapping[str, Any]) -> Mapping[str, Any]:
        handle = f"import:{uuid.uuid4().hex}"
        args = {"handle": handle, "definition": definition}
        load_request = LoadRequest(handle=handle, args=args)
        try:
            return dict(
                await self._pool.call(
                    "get_program",
                    {"handle": handle},
                    program=load_request,
                    seconds=self.config.seconds,
                    handler=LoadHandler(current()),
                )
            )
        finally:
            self._pool.forget(handle)
            await self._pool.broadcast("delete_program", {"handle": handle})

    async def delete_program(self, handle: Handle) -> None:
        """Remove one program, here and in every worker."""
        self._programs.delete(handle)
        self._pool.forget(handle)
        await self._pool.broadcast("delete_program", {"handle": handle})

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._programs.handles()


def _adapter_for(loaded: _LoadedProgram, context: RunContext, model: LanguageModel) -> str:
    adapter = loaded.adapter or context.adapter_for(None, model).name
    if adapter not in _ADAPTERS:
        raise DefinitionError(
            f"dspy does not have the adapter {adapter!r}; use one of {', '.join(_ADAPTERS)} for "
            "this node"
        )
    return adapter


def _check_no_citations(program: Program) -> None:
    if citation_plan(program.signature) is not None:
        raise DefinitionError(
            "citations are resolved after each run, and dspy's optimizers and evaluations run in "
            "the worker: use those of dspex"
        )


def _with_state(config: dict[str, Any], state: Mapping[str, Any] | None) -> dict[str, Any]:
    if state is None:
        return config
    return {**config, "state": {key: value for key, value in state.items() if key != "metadata"}}
