"""`dspex.open`: record programs that run as a library, as the command line and the server do."""

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from dspex.arguments import checks_values
from dspex.errors import (
    ConfigurationError,
    ExecutionError,
    InputError,
    InternalError,
    InvalidError,
    NotFoundError,
)
from dspex.execution.backends import BackendModule, Backends
from dspex.execution.context import RunContext, current, update_default, use_context
from dspex.execution.modules import CodeRoot, Module, build
from dspex.execution.modules.kinds import MODULE_KINDS, kinds_on
from dspex.language.programs import Program
from dspex.language.records import Prediction, Span
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_record
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.programs.records import ProgramRecord
from dspex.operations.programs.stored_programs import (
    current_version,
    find_program,
    numbered_version,
    record_program,
)
from dspex.settings import read_settings
from dspex.sync import is_running, on_loop, run
from dspex.telemetry import Event, Observer

T = TypeVar("T")


@checks_values
def open(folder: str | Path = ".dspex") -> "OpenStore":  # `dspex.open`
    """Return a store for a `with` or `async with` block that records the programs run inside.

    It uses the same database as the command line and the server in that folder. In `with`, call
    programs synchronously in this thread; inside a coroutine, write `async with` and await them.
    The store of an `async with` applies to the whole process until it is closed: it also records
    other tasks and threads, such as the requests of a web application whose lifespan opened it. Of
    several open stores, the innermost one around a program records it.

    Models, budgets and observers are those of the caller, and every part of a program runs in this
    process. A program whose code cannot be imported raises an error, because it cannot be recorded.
    """
    return OpenStore(Path(folder))


class OpenStore:
    """An open store. `operations` are its reads and actions, owned by the loop that opened it."""

    def __init__(self, folder: Path) -> None:
        """Take the state folder without opening it."""
        self._folder = folder
        self._code = CodeRoot(Path().resolve())
        self._stack: AsyncExitStack | None = None
        self._contexts = ExitStack()
        self._operations: Operations | None = None
        self._outer: OpenStore | None = None
        self._is_active = False
        self._is_used = False
        self._was_open = False
        self._save_lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loaded: WeakKeyDictionary[Module, tuple[ProgramRecord, str]] = WeakKeyDictionary()

    @property
    def operations(self) -> Operations:
        """The operations of the open store.

        Raises:
            ConfigurationError: it is not open.
        """
        self._is_used = True
        if self._operations is None:
            raise ConfigurationError(
                "the store of `dspex.open` is not open: use it in `with dspex.open(...) as store:`"
            )
        return self._operations

    def executions(
        self, *, program: str | None = None, limit: int = 20
    ) -> Sequence[ExecutionRecord]:
        """Return the newest executions, of all programs or of one; for synchronous callers."""

        async def read() -> Sequence[ExecutionRecord]:
            where = (
                {}
                if program is None
                else {"program_id": (await find_program(self.operations, name=program)).id}
            )
            return await self.operations.list(DOMAIN["execution"], Query(where=where, limit=limit))  # type: ignore[no-any-return]

        return run(read())

    def load(self, program: str | UUID, *, version: int | None = None) -> Module:
        """Return a stored program as a module, for synchronous callers; see `aload`."""
        return run(self.aload(program, version=version))

    async def aload(self, program: str | UUID, *, version: int | None = None) -> Module:
        """Return a stored program, by name or id, as a module with its tools.

        The module runs in this process; only a program of dspy runs in a worker. Its runs in this
        store are executions of the version that was loaded, by default the current one.

        Raises:
            NotFoundError: the program or the version does not exist.
            DefinitionError: code cannot be imported from the working folder; the message names the
                tool, check or class.
            ConflictError: the code has changed since the version was stored.
        """
        return await self._on_own_loop(lambda: self._load(program, version))

    async def _load(self, program: str | UUID, number: int | None) -> Module:
        record = await _find(self.operations, program)
        version = (
            await current_version(self.operations, record)
            if number is None
            else await numbered_version(self.operations, record, number)
        )
        data = {"definition": version.definition, "assignment": version.assignment}
        value = replace(Program.from_dict(data), name=record.name)
        elsewhere = MODULE_KINDS.keys() - kinds_on("native")
        if any(node.kind in elsewhere for node in value.root.walk()):
            choice = self.operations.services[Backends].choose(value, stored=record.backend)
            module: Module = BackendModule(choice.program, choice.backend)
        else:
            module = build(value, code=self._code)
        stored = replace(record, current_version_id=version.id)
        self._loaded[module] = (stored, module.to_program(record.name).content_hash)
        return module

    def __enter__(self) -> Self:
        run(self._open())
        self._contexts.enter_context(use_context(msgspec.structs.replace(current(), record=self)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._contexts.close()
        run(self._close())
        if kind is None and not self._is_used and is_running():  # requests are in other tasks
            warnings.warn(
                "`with dspex.open(...)` inside a coroutine recorded nothing: in async code, such "
                "as the lifespan of a web application, write `async with dspex.open(...)`",
                RuntimeWarning,
                stacklevel=2,
            )

    def __del__(self) -> None:
        """Warn if the store was never opened, as Python warns of coroutines never awaited."""
        if not self._was_open:
            warnings.warn(
                "`dspex.open(...)` was never opened, so it recorded nothing: write `with "
                "dspex.open(...):`, or `dspex.configure(store=...)` for the whole process",
                RuntimeWarning,
                stacklevel=1,
                source=self,
            )

    async def __aenter__(self) -> Self:
        await self._open()
        self._contexts.enter_context(use_context(msgspec.structs.replace(current(), record=self)))
        self._is_active = True
        update_default(self._activate)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_active = False
        update_default(self._deactivate)
        # closed in another context than opened, as fixtures of tests are
        with contextlib.suppress(ValueError):
            self._contexts.close()
        await self._close()

    def _activate(self, default: RunContext) -> RunContext:
        """Return the process default with this store, for tasks that do not inherit our context."""
        self._outer = default.record if isinstance(default.record, OpenStore) else None
        return msgspec.structs.replace(default, record=self)

    def _deactivate(self, default: RunContext) -> RunContext:
        """Return the process default without this store, unless another store has replaced it."""
        if default.record is not self:
            return default
        return msgspec.structs.replace(
            default, record=None if self._outer is None else self._outer.nearest_open()
        )

    def nearest_open(self) -> "OpenStore | None":
        """Return this store, or if it is closed the nearest outer one that is open, if any."""
        if self._is_active:
            return self
        return None if self._outer is None else self._outer.nearest_open()

    async def _open(self) -> None:
        self._was_open = True
        try:
            from dspex.bootstrap.services import open_services
        except ImportError as error:
            raise ConfigurationError(
                f"a store needs more packages: pip install 'dspex[server]' ({error})"
            ) from error
        settings = replace(read_settings(), state_dir=self._folder, model=None, test_mode=False)
        self._stack = AsyncExitStack()
        services = await self._stack.enter_async_context(open_services(settings, code=self._code))
        self._operations = services.operations
        self._loop = asyncio.get_running_loop()

    async def _close(self) -> None:
        if self._stack is not None:
            await self._stack.aclose()
        self._stack = self._operations = self._loop = None

    async def __call__(
        self, module: object, context: RunContext, inputs: Mapping[str, object]
    ) -> Prediction:
        """Run `module` once in its own context and record it; its errors are raised here.

        It runs on the loop of the caller, except on other backends, which the store owns.

        Raises:
            ConfigurationError: the store is closed, or its event loop cannot be reached from here.
        """
        self._is_used = True
        if not isinstance(module, Module):
            raise InternalError(
                f"{type(module).__name__} is not a module, so it cannot be recorded"
            )
        loop = None if isinstance(module, BackendModule) else asyncio.get_running_loop()
        run = _RecordedRun(module, context, inputs, loop=loop)
        return await self._on_own_loop(lambda: self._record(run))

    async def _on_own_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._loop is None:
            raise ConfigurationError(
                "the store of `dspex.open` is not open: use it in `with dspex.open(...) as store:`"
            )
        if self._loop is asyncio.get_running_loop():
            return await work()
        if self._loop.is_running():
            return await on_loop(self._loop, work())
        raise ConfigurationError(
            "the store was opened for another event loop: inside a coroutine, write `async with "
            "dspex.open(...)`"
        )

    async def _record(self, run: "_RecordedRun") -> Prediction:
        record = await self._save(run.module)
        try:
            execution = await execute_record(
                self.operations,
                record,
                dict(run.inputs),
                backend=None if isinstance(run.module, BackendModule) else "native",
                call=run.call,  # all parts run here
            )
        except InvalidError as error:
            raise InputError(
                error.message, errors=error.fields, execution_id=error.execution_id
            ) from None
        if run.error is not None:
            raise run.error
        if run.prediction is None or execution.status != "completed":
            message = (execution.error or {}).get("message", f"the execution is {execution.status}")
            raise ExecutionError(str(message), execution_id=str(execution.id))
        return run.prediction

    async def _save(self, module: Module) -> ProgramRecord:
        """Return the record of `module` with its version, which is stored unless it was loaded."""
        loaded, content_hash = self._loaded.get(module, (None, ""))
        program = module.to_program("" if loaded is None else loaded.name)
        if loaded is not None and program.content_hash == content_hash:
            return loaded
        async with self._save_lock:
            return await record_program(self.operations, program)


async def _find(operations: Operations, program: str | UUID) -> ProgramRecord:
    """Return a program by its name or its id.

    Raises:
        NotFoundError: it does not exist.
    """
    if isinstance(program, UUID):
        return await find_program(operations, program)
    try:
        return await find_program(operations, name=program)
    except NotFoundError:
        try:
            key = UUID(program)
        except ValueError:
            key = None
        if key is None:
            raise
    return await find_program(operations, key)


class _RecordedRun:
    """One call of the live module, with its models and tools, and its result or error."""

    def __init__(
        self,
        module: Module,
        context: RunContext,
        inputs: Mapping[str, object],
        *,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.module = module
        self.inputs = inputs
        self._context = context
        self._loop = loop
        self.prediction: Prediction | None = None
        self.error: Exception | None = None

    async def call(self, recorded: RunContext) -> Prediction:
        """Call the module in the context and with the inputs of the caller."""
        observers = _ObserverPair(self._context.observer, recorded.observer)
        inner = msgspec.structs.replace(
            self._context.part_of(recorded.frame.execution_id),
            record=False,
            observer=observers,
            records_payloads=self._context.records_payloads or recorded.records_payloads,
        )
        try:
            call = self.module.acall(inner, **self.inputs)
            self.prediction = await (call if self._loop is None else on_loop(self._loop, call))
        except Exception as error:
            self.error = error
            raise
        return self.prediction


class _ObserverPair:
    """Forwards to two observers."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Observer, second: Observer) -> None:
        self._first = first
        self._second = second

    def on_span(self, span: Span) -> None:
        """Forward a span."""
        self._first.on_span(span)
        self._second.on_span(span)

    def on_event(self, event: Event) -> None:
        """Forward an event."""
        self._first.on_event(event)
        self._second.on_event(event)
