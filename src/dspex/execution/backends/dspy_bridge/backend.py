"""Programs on the real dspy, in supervised workers."""

import asyncio
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

from dspex.errors import AdapterError, DefinitionError, DspexError, ExecutionError, InvalidError
from dspex.execution.adapters import ChatAdapter, JSONAdapter, read_row
from dspex.execution.adapters.replies import reader_of
from dspex.execution.adapters.turns import validate_outputs
from dspex.execution.backends.backend import BackendCapability, Handle
from dspex.execution.backends.dspy_bridge.contracts import unfit_answer
from dspex.execution.backends.dspy_bridge.definitions import (
    Functions,
    adapter_of,
    imported,
    learned,
    lowered,
    models_of,
    setting,
    space_of,
    unfit_state,
    values_of,
)
from dspex.execution.backends.held import Held
from dspex.execution.backends.optimizing import Optimization, Progress
from dspex.execution.backends.outputs import is_guess
from dspex.execution.backends.reasons import reason
from dspex.execution.backends.remote import Answerer, Metric, Tools, about, model_of, scored, sendable
from dspex.execution.backends.telling import Telling
from dspex.execution.context import OpenSpan, RunContext, TraceRecorder, call_guarded, payload
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import LoadRequest, Pool, PoolConfig, PoolStats, WorkerSpec
from dspex.language.programs import Node, Program
from dspex.language.records import Prediction
from dspex.language.signatures import Field, Signature
from dspex.telemetry import Observer

HOST = Path(__file__).parent / "child"
_READABLE = frozenset({"predict", "chain_of_thought"})  # their last reply is their answer


@dataclass(frozen=True, slots=True, kw_only=True)
class DspyConfig:
    """Which interpreter has dspy, where users' modules are imported from, and how many workers there are.

    Two backends with two interpreters run two versions of dspy side by side. `interface` is how dspy asks its model:
    by `BaseLM.forward` (3.3 and 3.4) or by an engine (3.4, and the only way in 3.5); "auto" takes what the version has.
    """

    interpreter: str = sys.executable
    paths: tuple[str, ...] = ()
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(name="dspy", minimum=1, maximum=2, spares=1))
    concurrency: int = 4
    interface: Literal["auto", "forward", "engine"] = "auto"
    memory_limit: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class _Kept:
    program: Program
    loading: LoadRequest
    tools: Tools
    models: tuple[str, ...]
    adapter: str | None


class DspyBackend:
    """Creates dspy modules from definitions and runs them in workers; models and tools answer in this process.

    Owned by one event loop; `async with` starts and ends its workers. Kinds: predict, chain_of_thought, react,
    program_of_thought, and `dspy` for a module that a user wrote.
    """

    name = "dspy"
    capabilities: frozenset[BackendCapability] = frozenset({"code_programs", "streaming", "isolation", "optimizing"})

    def __init__(
        self,
        config: DspyConfig | None = None,
        *,
        tools: Tools | None = None,
        code: CodeRoot | None = None,
        observer: Observer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Take the tools by name that programs may use, and where tools that a program names by target come from.

        Nothing is started before `async with`.
        """
        self.config = config or DspyConfig()
        self._functions = Functions(tools or {}, code)
        self._programs: Held[_Kept] = Held()
        self._cache = Path(tempfile.gettempdir()) / f"dspex-dspy-{uuid.uuid4().hex}"
        spec = WorkerSpec(
            host=HOST,
            interpreter=self.config.interpreter,
            paths=self.config.paths,
            config={"interface": self.config.interface},
            concurrency=self.config.concurrency,
            memory_limit=self.config.memory_limit,
            # without it dspy 3.4 downloads a price list at its first call; its cache folder must not be the user's
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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.stop()
        shutil.rmtree(self._cache, ignore_errors=True)

    @property
    def version(self) -> str:
        """The version of dspy in the workers."""
        return str(self._pool.about.get("dspy", ""))

    def stats(self) -> PoolStats:
        """Return what every worker does at this moment."""
        return self._pool.stats()

    async def create_program(self, program: Program) -> Handle:
        """Make the program's root a dspy module; see `Backend.create_program`."""
        handle = Handle(program.content_hash)
        if not self._programs.touch(handle):
            definition, tools = lowered(program, self._functions)
            args = {"handle": handle, "definition": definition}
            loading = LoadRequest(handle=handle, args=args)
            await self._call("create_program", args, program=loading)
            self._programs.put(handle, _Kept(program, loading, tools, models_of(program), adapter_of(program)))
        return handle

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext, *, on_event: Progress | None = None
    ) -> Prediction:
        """Run a program once; see `Backend.execute_program`. With `on_event`, predictors are heard as they answer."""
        if context.is_bounded:
            return await call_guarded(
                context, lambda inside: self.execute_program(handle, inputs, inside, on_event=on_event)
            )
        kept = self._programs.get(handle)
        signature = kept.program.signature
        values = sendable(signature.validate_inputs(inputs))
        sent = signature.input_validator.dump(values)
        args = {"inputs": {signature.fields[name].wire_name: value for name, value in sent.items()}}
        first = 0 if context.run is None else len(context.run.spans)
        answer, span = await self._run(kept, "execute_program", args, context=context, events=on_event)
        outputs = _outputs(kept.program, answer)
        return Prediction.of_run(outputs, span.run.trace(span.id, first=first))

    async def _call(
        self,
        command: str,
        args: Mapping[str, Any],
        *,
        handler: Answerer | None = None,
        program: LoadRequest | None = None,
    ) -> Any:  # noqa: ANN401  # any JSON value
        """Make one call; where the worker has loaded older code than the program needs, once more on new workers."""
        options: dict[str, Any] = {"seconds": self.config.seconds, "handler": handler, "program": program}
        try:
            return await self._pool.call(command, args, **options)
        except ExecutionError as error:
            if error.context.get("remote_code") != "stale":
                raise
        self._pool.recycle("the code of a program has changed")
        return await self._pool.call(command, args, **options)

    async def _run(
        self,
        kept: _Kept,
        command: str,
        args: Mapping[str, Any],
        *,
        context: RunContext,
        events: Progress | None = None,
        metric: Metric | None = None,
    ) -> tuple[Any, OpenSpan]:
        run = context.run or TraceRecorder(context.observer, context.clock, {})
        model = model_of(context, setting(kept.program.root, "model"))
        adapter = kept.adapter or context.adapter_for(None, model).name
        if adapter not in {"chat", "json"}:
            raise DefinitionError(f"dspy has no adapter {adapter!r} of ours; use 'chat' or 'json' for this node")
        span = run.begin("backend", self.name, parent_id=context.parent_id, path=context.path or "self")
        answerer = Answerer(context=context, span=span, model=model, tools=kept.tools, metric=metric)
        if events is not None:
            answerer.on_progress = events
        if context.emit is not None:
            answerer.telling = Telling(context.emit)
        message = {
            "handle": kept.loading.handle,
            "model": about(model),
            "models": {name: about(context.model_for(name)) for name in kept.models},
            "adapter": adapter,
            "stream": events is not None or context.emit is not None,
            "note": context.note is not None,
            **args,
        }
        program = kept.program
        shown = {"dspy": self.version, "kind": program.root.kind, **reason(program, self.name, context)}
        try:
            answer = await self._call(command, message, handler=answerer, program=kept.loading)
            if answerer.telling is not None:
                await answerer.telling.flush()
        except BaseException as error:
            span.end(attributes=shown, error=error)
            # dspy 3.3 has no error of its own for a wrong choice
            if type(error) in {AdapterError, ExecutionError} and (ours := _explained(program, answerer.reply)):
                raise ours from error
            raise
        span.end(attributes=shown)
        return answer, span

    async def optimize_program(
        self, handle: Handle, work: Optimization, context: RunContext, *, on_progress: Progress | None = None
    ) -> Program:
        """Run one of dspy's optimizers and return the better program; the stored one stays as it is.

        dspy resets a program before most searches: predictors with a model of their own are searched on the run's.
        Cancelling it stops the worker's part within a second. A metric that fails ends the search: dspy would go on
        without that score.

        Raises:
            DefinitionError: an option does not fit, or the metric fails.
            ExecutionError: the optimizer failed.
        """
        kept = self._programs.get(handle)
        args = {
            "optimizer": work.optimizer,
            "trainset": [read_row(kept.program.signature, row) for row in work.trainset],
            "valset": [read_row(kept.program.signature, row) for row in work.valset],
            "inputs": list(kept.program.signature.input_fields),
            "options": dict(work.options),
            "compile": dict(work.compile),
        }
        faults: list[DspexError] = []

        async def score(row: Mapping[str, Any], found: Mapping[str, Any]) -> float | dict[str, Any]:
            try:
                return await scored(work.metric, row, found)
            except DspexError as error:
                faults.append(error)
                search.cancel()
                raise

        run = self._run(kept, "optimize_program", args, context=context, events=on_progress, metric=score)
        search = asyncio.ensure_future(run)
        try:
            answer, _ = await search
        except asyncio.CancelledError:
            if faults:
                raise faults[0] from None
            raise
        return learned(kept.program, answer["predictors"])

    async def evaluate_program(
        self,
        handle: Handle,
        rows: Sequence[Mapping[str, Any]],
        metric: Metric,
        *,
        context: RunContext,
        on_progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """Run a program on every row; a row that fails has `error` set and no score."""
        kept = self._programs.get(handle)
        signature = kept.program.signature
        args = {"rows": [read_row(signature, row) for row in rows], "inputs": list(signature.input_fields)}
        answer, _ = await self._run(kept, "evaluate_program", args, context=context, events=on_progress, metric=metric)
        return list(answer["rows"])

    async def export_state(self, handle: Handle) -> dict[str, Any]:
        """Return the program's state as dspy's own `save` would write it, without keys."""
        kept = self._programs.get(handle)
        args = {"handle": handle}
        return dict(await self._call("export_state", args, program=kept.loading))

    async def import_program(
        self,
        target: str,
        *,
        init: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        signature: Signature | None = None,
        name: str = "",
    ) -> Program:
        """Return a module that a user wrote for dspy ("pkg.mod:Name" under `paths`) as a program, with a saved state.

        Its inputs are what `forward` takes, its outputs those of every prediction that `forward` returns, as its source
        tells; unless `signature` says otherwise.

        Raises:
            DefinitionError: the target cannot be imported, or is no dspy module; the state is of another program.
        """
        config: dict[str, Any] = {"target": target, "init": dict(init or {}), "dspy": self._requirement()}
        described = await self._described({"kind": "dspy", **config}, state)
        if source := described.get("source_hash"):
            config["source_hash"] = source
        node = Node(id="self", kind="dspy", backend="dspy", config=_with_state(config, state))
        return imported(described, node, signature=signature, name=name)

    async def import_state(self, program: Program, state: Mapping[str, Any]) -> Program:
        """Return a program of one module of ours (`program_of_thought` over a signature, say) with a state of dspy.

        Raises:
            DefinitionError: the state is of another program.
        """
        definition, _ = lowered(program, self._functions)
        described = await self._described(definition, state)
        config = _with_state({**program.root.config, "dspy": self._requirement()}, state)
        node = replace(program.root, backend="dspy", config=config)
        predictors = described["predictors"]
        return replace(program, root=node, space=space_of(predictors), assignment=values_of(predictors))

    def _requirement(self) -> str:
        major, minor, *_ = (*self.version.split("."), "", "")
        return f"=={major}.{minor}.*"

    async def _described(self, definition: Mapping[str, Any], state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return what a worker says about a program, with `state` in it; nothing of it stays there."""
        described = await self._asked(definition)
        if state is None:
            return described
        own = {key: value for key, value in state.items() if key != "metadata"}
        if why := unfit_state(own, described):
            raise DefinitionError(f"{why}; give the module that this state was saved of")
        return await self._asked({**definition, "state": own})

    async def _asked(self, definition: Mapping[str, Any]) -> Mapping[str, Any]:
        handle = f"import:{uuid.uuid4().hex}"
        args = {"handle": handle, "definition": definition}
        loading = LoadRequest(handle=handle, args=args)
        try:
            return dict(
                await self._pool.call("get_program", {"handle": handle}, program=loading, seconds=self.config.seconds)
            )
        finally:
            self._pool.forget(handle)
            await self._pool.broadcast("delete_program", {"handle": handle})

    async def delete_program(self, handle: Handle) -> None:
        """Forget one program, here and in every worker."""
        self._programs.delete(handle)
        self._pool.forget(handle)
        await self._pool.broadcast("delete_program", {"handle": handle})

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._programs.handles()


def _with_state(config: dict[str, Any], state: Mapping[str, Any] | None) -> dict[str, Any]:
    if state is None:
        return config
    return {**config, "state": {key: value for key, value in state.items() if key != "metadata"}}


def _explained(program: Program, reply: str) -> AdapterError | None:
    """Return the error that the last reply is natively, which names the fields; None where it is none there."""
    if program.root.kind not in _READABLE or not reply:
        return None
    adapter = JSONAdapter() if reply.lstrip().startswith("{") else ChatAdapter()
    try:
        adapter.parse(program.signature, reply)
    except AdapterError as ours:
        return ours
    return None


def _outputs(program: Program, answer: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a worker's answer under our names; fields beyond the signature (a reasoning) are kept after them.

    It is checked as a reply is natively.

    Raises:
        AdapterError: a reply does not fit the signature.
        DefinitionError: what a user's own module returned does not fit it.
    """
    if not isinstance(answer, Mapping):
        raise DefinitionError(f"the dspy program answered {answer!r}, which is no prediction")
    signature = program.signature
    fields = {field.wire_name: field for field in signature.output_fields.values()}
    known = {field.name: _read(field, answer[key]) for key, field in fields.items() if key in answer}
    if program.root.kind == "dspy":  # its own code made the prediction, not a reply
        try:
            outputs = signature.output_validator(known)
        except InvalidError as error:
            raise unfit_answer(program, answer, error) from None
    else:
        outputs = validate_outputs(signature, payload(answer), known)
    if is_guess(program):
        outputs = {name: value for name, value in outputs.items() if name in known}
    return {**outputs, **{key: value for key, value in answer.items() if key not in fields}}


def _read(field: Field, value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Return what dspy left as text where nothing may stand there, too, as it is read natively: "null" is None."""
    return reader_of(field.type)(value) if field.type.is_optional and isinstance(value, str) else value
