"""The context of a run (model, adapter, observer, limits) and the recorder of its trace.

A value is looked up in this order: explicit argument, enclosing `with context(...)` or running
module, process default. If there is none, an error shows how to set it.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import uuid_utils

from dspex.clock import Clock, SystemClock
from dspex.errors import ConfigurationError, DeadlineError, describe
from dspex.execution.adapters import Adapter, ChatAdapter, JSONAdapter, ToolAdapter
from dspex.execution.clients import LanguageModel
from dspex.execution.clients.address import without_credentials
from dspex.execution.clients.rollout import Rollout
from dspex.language.records import Prediction, Span, SpanKind, SpanStatus, Trace, Usage
from dspex.language.records.canonical import json_bytes
from dspex.telemetry import Event, Observer, Silent, StreamEvent

if TYPE_CHECKING:
    from dspex.execution.clients import Budget

PAYLOAD_LIMIT = 64 * 1024
_SILENT = Silent()
_CLOCK = SystemClock()
THREE_WAYS = """no model is set. Set one in one of three ways:
  dspex.configure(model="local/gemma3-270m")              # for the whole process
  with dspex.context(model="openai/gpt-4o-mini"): ...     # for a block
  dspex.Predict(signature, model="http://host/v1#name")   # for one module
The command line and the server take --model, DSPEX_MODEL, or `model = ...` in dspex.toml."""


class TraceRecorder:
    """Records the finished spans of one run of a program. Owned by one event loop."""

    __slots__ = ("_next", "clock", "observer", "paths", "spans", "trace_id")

    def __init__(self, observer: Observer, clock: Clock, paths: Mapping[int, str]) -> None:
        """Start without spans; `paths` maps the `id()` of each module to its path."""
        self.paths = paths
        self.trace_id = uuid_utils.uuid7().hex
        self.observer = observer
        self.clock = clock
        self.spans: list[Span] = []
        self._next = 0

    def begin(self, kind: SpanKind, name: str, *, parent_id: int | None, path: str) -> "OpenSpan":
        """Start a span; it is recorded when it ends."""
        self._next += 1
        return OpenSpan(self, self._next, kind, name, parent_id, path, self.clock.monotonic_ns())

    def trace(self, span_id: int, *, first: int) -> Callable[[], Trace]:
        """Return a function that builds the trace of span `span_id`, which has just ended.

        The trace has that span and its descendants, recorded from index `first` on.
        """
        last = len(self.spans)
        return lambda: Trace(self.trace_id, self._below(span_id, first=first, last=last))

    def below(self, span_id: int, *, first: int) -> tuple[Span, ...]:
        """Return span `span_id` and its descendants, recorded from index `first` on."""
        return self._below(span_id, first=first, last=len(self.spans))

    def _below(self, span_id: int, *, first: int, last: int) -> tuple[Span, ...]:
        inside, spans = {span_id}, []
        for span in reversed(self.spans[first:last]):
            if span.span_id in inside or span.parent_id in inside:
                inside.add(span.span_id)
                spans.append(span)
        return tuple(reversed(spans))


class OpenSpan(msgspec.Struct, gc=False):  # thousands are open at once, and none is part of a cycle
    """A span that has not ended. `id` is its number in the run.

    `inputs` is JSON text if payloads are recorded.
    """

    run: TraceRecorder
    id: int
    kind: SpanKind
    name: str
    parent_id: int | None
    path: str
    start_ns: int
    inputs: str | None = None

    def end(
        self,
        *,
        usage: Usage | None = None,
        attributes: dict[str, object] | None = None,
        outputs: str | None = None,
        error: BaseException | None = None,
    ) -> Span:
        """End the span now, record it and pass it to the observer."""
        span = Span(
            trace_id=self.run.trace_id,
            span_id=self.id,
            parent_id=self.parent_id,
            kind=self.kind,
            name=self.name,
            path=self.path,
            start_ns=self.start_ns,
            end_ns=self.run.clock.monotonic_ns(),
            status=_status(error),
            error=None if error is None else describe(error)[:2000],
            attributes=attributes or {},
            usage=usage,
            inputs_ref=self.inputs,
            outputs_ref=outputs,
        )
        self.run.spans.append(span)
        self.run.observer.on_span(span)
        return span


def _status(error: BaseException | None) -> SpanStatus:
    if error is None:
        return "ok"
    return "error" if isinstance(error, Exception) else "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The configuration of a run and its place in the trace; immutable and safe to share.

    - `models` resolves the model strings that modules carry.
    - `records_payloads`: spans of model calls keep messages and replies (cut at 64 KiB).
    - `rollout` numbers the attempts of `Retry`, so that no attempt gets a cached reply of another.
    - `deadline` is a time of the clock in monotonic nanoseconds. All runs that get the same
      `budget` or `cancellation` share it.
    - `emit` receives events during the run, see `Module.stream`; `note` receives the path, inputs
      and outputs of each predictor after its answer.
    - `memo` and `objections` implement `Assert`.
    - `run`, `parent_id` and `path` are the position of a module in the current run.
    - `is_guarded`: an outer call already enforces deadline and cancellation.
    - `record` executes and stores each run of a whole program instead of the module (`dspex.open`).
    """

    model: LanguageModel | None = None
    adapter: Adapter | None = None
    observer: Observer = _SILENT
    models: Callable[[str], LanguageModel] | None = None
    seed: int | None = None
    rollout: int = 0
    records_payloads: bool = False
    clock: Clock = _CLOCK
    deadline: int | None = None
    budget: "Budget | None" = None
    cancellation: "Cancellation | None" = None
    emit: Callable[[StreamEvent], Awaitable[None]] | None = None
    note: Callable[[str, Mapping[str, object], Mapping[str, object]], None] | None = None
    memo: "Memo | None" = None
    objections: tuple[tuple[Prediction, str], ...] = ()
    run: TraceRecorder | None = None
    parent_id: int | None = None
    path: str = ""
    is_guarded: bool = False
    record: "Record | None" = None

    @property
    def is_bounded(self) -> bool:
        """Whether a run that starts here has to enforce deadline or cancellation itself."""
        return (self.deadline is not None or self.cancellation is not None) and not self.is_guarded

    @property
    def is_recorded(self) -> bool:
        """Whether a run that starts here is stored."""
        return self.record is not None and self.run is None

    def within(self, seconds: float) -> "RunContext":
        """Return the context with a deadline `seconds` from now, unless it has an earlier one."""
        until = self.clock.monotonic_ns() + int(seconds * 1e9)
        if self.deadline is not None and self.deadline <= until:
            return self
        return replace(self, deadline=until, is_guarded=False)

    def below(self, span: "OpenSpan") -> "RunContext":
        """Return the context for work inside `span`."""
        return replace(self, parent_id=span.id, memo=None)

    def check(self) -> None:
        """Raise if the run is cancelled or its deadline has passed.

        Raises:
            CancelledError: the run is cancelled.
            DeadlineError: the deadline has passed.
        """
        if self.cancellation is not None and self.cancellation.is_cancelled:
            raise asyncio.CancelledError
        if self.deadline is not None and self.clock.monotonic_ns() >= self.deadline:
            raise DeadlineError(
                "the deadline of this run has passed; nothing more is sent", limit="time"
            )

    def model_for(self, model: LanguageModel | str | None) -> LanguageModel:
        """Return `model`, by default that of this context; retries get one that skips caches.

        Raises:
            ConfigurationError: no model is set, or this context cannot resolve model strings.
        """
        resolved = self._model_for(model)
        return Rollout(resolved, self.rollout) if self.rollout else resolved

    def _model_for(self, model: LanguageModel | str | None) -> LanguageModel:
        if model is None:
            if self.model is None:
                raise ConfigurationError(THREE_WAYS)
            return self.model
        if not isinstance(model, str):
            return model
        if self.models is None:
            name = without_credentials(model)
            raise ConfigurationError(
                f"this context cannot resolve the model string {name!r}; {THREE_WAYS}"
            )
        return self.models(model)

    def adapter_for(self, adapter: Adapter | None, model: LanguageModel) -> Adapter:
        """Return `adapter`, else the adapter of this context, else the default for `model`.

        The default is JSON if the model decodes under a schema (its replies are always
        well-formed), otherwise chat.
        """
        return (
            adapter
            or self.adapter
            or (_JSON if "constrained_decoding" in model.capabilities else _CHAT)
        )

    def say(self, event: Event) -> None:
        """Pass an event to the observer."""
        self.observer.on_event(event)


Record = Callable[[object, RunContext, Mapping[str, object]], Awaitable[Prediction]]
_CHAT = ChatAdapter()
_JSON = JSONAdapter()
ADAPTERS: dict[str, Adapter] = {"chat": _CHAT, "json": _JSON, "tools": ToolAdapter()}


class Memo:
    """The calls of one `forward` in order, so that it can run again without repeating them."""

    __slots__ = ("_entries", "_objections", "_replay")

    def __init__(self) -> None:
        self._entries: list[MemoEntry] = []
        self._replay: list[MemoEntry] = []
        self._objections: list[tuple[MemoEntry, str]] = []

    def record(
        self, module: object, inputs: Mapping[str, object], prediction: Prediction
    ) -> Prediction:
        """Record a call and its answer."""
        self._entries.append(MemoEntry(module, inputs, prediction))
        return prediction

    def recall(self, module: object, inputs: Mapping[str, object]) -> Prediction | None:
        """Return the answer to the same call in the previous run of `forward`, once per call."""
        for number, entry in enumerate(self._replay):
            if entry.module is module and entry.inputs == inputs:
                self._entries.append(self._replay.pop(number))
                return entry.prediction
        return None

    def objections(
        self, module: object, inputs: Mapping[str, object]
    ) -> tuple[tuple[Prediction, str], ...]:
        """Return earlier answers to this call, each with the message of the failed `Assert`."""
        return tuple(
            (entry.prediction, message)
            for entry, message in self._objections
            if entry.module is module and entry.inputs == inputs
        )

    def retry_with(self, prediction: Prediction, message: str) -> "Memo | None":
        """Return the memo for another run, in which the call that made `prediction` gets `message`.

        None if no call of this `forward` made the prediction.
        """
        for number, entry in enumerate(self._entries):
            if entry.prediction is prediction:
                after = Memo()
                after._replay = self._entries[:number]  # a second constructor
                after._objections = [*self._objections, (entry, message)]
                return after
        return None


@dataclass(frozen=True, slots=True)
class MemoEntry:
    """One call: the module, its inputs and the answer."""

    module: object
    inputs: Mapping[str, object]
    prediction: Prediction


class Cancellation:
    """Cancels every run that has it in its context, from any thread.

    Requests in flight are aborted and no new ones are sent; the runs raise
    `asyncio.CancelledError`.
    """

    __slots__ = ("_lock", "_watched", "is_cancelled")

    def __init__(self) -> None:
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._watched: dict[asyncio.Task[object], asyncio.AbstractEventLoop] = {}

    def cancel(self) -> None:
        """Cancel all runs; a second call does nothing."""
        with self._lock:
            self.is_cancelled = True
            watched, self._watched = self._watched, {}
        for task, loop in watched.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

    @contextmanager
    def watching(self, task: "asyncio.Task[object]") -> Iterator[None]:
        """Cancel `task` too while this block, or an outer block for the same task, lasts."""
        with self._lock:
            if self.is_cancelled:
                raise asyncio.CancelledError
            is_outermost = task not in self._watched
            self._watched[task] = task.get_loop()
        try:
            yield
        finally:
            if is_outermost:
                with self._lock:
                    self._watched.pop(task, None)


class _ProcessDefault:
    """The only mutable state of the module: the context that `configure()` sets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context = RunContext()

    def get(self) -> RunContext:
        return self._context

    def update(self, change: Callable[[RunContext], RunContext]) -> None:
        with self._lock:
            self._context = change(self._context)


_default = _ProcessDefault()
_current: ContextVar[RunContext | None] = ContextVar("dspex_context", default=None)


def current() -> RunContext:
    """Return the context of the enclosing block or module, else the process default."""
    return _current.get() or _default.get()


def update_default(change: Callable[[RunContext], RunContext]) -> None:
    """Replace the process default with `change(default)`, atomically."""
    _default.update(change)


@contextmanager
def use_context(context: RunContext) -> Iterator[RunContext]:
    """Make `context` current inside the block, for this thread or task and those it starts."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def payload(value: object) -> str:
    """Return `value` as JSON text, cut at 64 KiB with a note at the end."""
    text = json_bytes(value, unknown=_to_jsonable).decode()
    if len(text) <= PAYLOAD_LIMIT:
        return text
    return f"{text[:PAYLOAD_LIMIT]}... (cut, {len(text)} characters)"


def _to_jsonable(value: object) -> object:
    """Return an instance as its JSON data, and a value without a JSON form as text."""
    from pydantic_core import to_jsonable_python

    try:
        return to_jsonable_python(value, fallback=str)
    except ValueError:  # bytes that are not text, or a value that contains itself
        return str(value)


def without_run(context: RunContext) -> RunContext:
    """Return the context for a separate run."""
    if context.run is None:
        return context
    return replace(context, run=None, parent_id=None, path="", emit=None, memo=None, objections=())


def find_adapter(adapter: "Adapter | str | None") -> Adapter | None:
    """Return the adapter with a name ("chat", "json", "tools"); pass adapters and None through.

    Raises:
        ConfigurationError: no adapter has this name.
    """
    if not isinstance(adapter, str):
        return adapter
    if adapter not in ADAPTERS:
        raise ConfigurationError(
            f"unknown adapter {adapter!r}; adapters are: {', '.join(ADAPTERS)}"
        )
    return ADAPTERS[adapter]


async def call_guarded(
    context: RunContext, call: Callable[[RunContext], Awaitable[Prediction]]
) -> Prediction:
    """Make one call, bounded by the deadline and cancellation of `context`.

    Raises:
        DeadlineError: the deadline passed before the answer.
    """
    context.check()
    inside = replace(context, is_guarded=True)
    task = asyncio.current_task()
    with ExitStack() as stack:
        if context.cancellation is not None and task is not None:
            stack.enter_context(context.cancellation.watching(task))
        if context.deadline is None:
            return await call(inside)
        seconds = (context.deadline - context.clock.monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(seconds) as limit:
                return await call(inside)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineError(
                "the deadline of this run has passed before its answer came", limit="time"
            ) from None
