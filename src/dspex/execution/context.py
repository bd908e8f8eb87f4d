"""What a run is given: model, adapter, observer and the like; and the record that it keeps.

Found in this order: an explicit argument, the enclosing `with context(...)` or running module, the process default,
else an error that shows how to set one.
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
    """The record of one run of a program: its finished spans. Owned by one event loop."""

    __slots__ = ("_next", "clock", "observer", "paths", "spans", "trace_id")

    def __init__(self, observer: Observer, clock: Clock, paths: Mapping[int, str]) -> None:
        """Begin an empty record; `paths` maps the `id()` of each module of the program to its path."""
        self.paths = paths
        self.trace_id = uuid_utils.uuid7().hex
        self.observer = observer
        self.clock = clock
        self.spans: list[Span] = []
        self._next = 0

    def begin(self, kind: SpanKind, name: str, *, parent_id: int | None, path: str) -> "OpenSpan":
        """Begin a span; it is recorded when it ends."""
        self._next += 1
        return OpenSpan(self, self._next, kind, name, parent_id, path, self.clock.monotonic_ns())

    def trace(self, span_id: int, *, first: int) -> Callable[[], Trace]:
        """Return what gathers span `span_id`, just ended, and all below it, recorded from index `first` on."""
        last = len(self.spans)
        return lambda: Trace(self.trace_id, self._below(span_id, first=first, last=last))

    def below(self, span_id: int, *, first: int) -> tuple[Span, ...]:
        """Return span `span_id` and all below it, among those recorded from index `first` on."""
        return self._below(span_id, first=first, last=len(self.spans))

    def _below(self, span_id: int, *, first: int, last: int) -> tuple[Span, ...]:
        inside, spans = {span_id}, []
        for span in reversed(self.spans[first:last]):
            if span.span_id in inside or span.parent_id in inside:
                inside.add(span.span_id)
                spans.append(span)
        return tuple(reversed(spans))


class OpenSpan(msgspec.Struct, gc=False):  # thousands are open at once; none is part of a cycle
    """A span under way. `id` is its number in the run, `inputs` JSON text where payloads are recorded."""

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
        """End now, record the span and tell the observer."""
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
    """The surroundings of a run; immutable, passed on, and safe to share.

    `models` turns the model strings that modules carry into models. `records_payloads` says whether spans of models
    keep messages and replies (cut at 64 KiB). `rollout` numbers the further attempts of `Retry`: none is answered with
    the reply of another. `deadline` is a moment of the clock (monotonic nanoseconds); `budget`
    and `cancellation` are shared by all runs that are given them. `emit` hears of the run while it goes on, see
    `Module.stream`; `note` of each predictor's path, inputs and outputs once it has answered; `memo` and `objections`
    serve `Assert`. `run`, `parent_id` and `path` place a module in the run under way; `is_guarded` says that deadline
    and cancellation are watched over further out. `record`, where it is set, makes each run of a whole program in the
    module's place, and stores it (`dspex.open`).
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
        """Whether a run that begins here has to watch deadline or cancellation itself."""
        return (self.deadline is not None or self.cancellation is not None) and not self.is_guarded

    @property
    def is_recorded(self) -> bool:
        """Whether a run that begins here is stored."""
        return self.record is not None and self.run is None

    def within(self, seconds: float) -> "RunContext":
        """Return the context with a deadline `seconds` from now; an earlier one stays."""
        until = self.clock.monotonic_ns() + int(seconds * 1e9)
        if self.deadline is not None and self.deadline <= until:
            return self
        return replace(self, deadline=until, is_guarded=False)

    def below(self, span: "OpenSpan") -> "RunContext":
        """Return the context for what happens inside `span`."""
        return replace(self, parent_id=span.id, memo=None)

    def check(self) -> None:
        """Refuse to go on after the deadline, or once cancelled.

        Raises:
            DeadlineError: the deadline has passed.
        """
        if self.cancellation is not None and self.cancellation.is_cancelled:
            raise asyncio.CancelledError
        if self.deadline is not None and self.clock.monotonic_ns() >= self.deadline:
            raise DeadlineError("the deadline of this run has passed; nothing more is sent", limit="time")

    def model_for(self, model: LanguageModel | str | None) -> LanguageModel:
        """Return a module's own model, else this context's; in a further attempt, one that is asked anew.

        Raises:
            ConfigurationError: there is none, or nobody here resolves model strings.
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
            raise ConfigurationError(f"nothing here resolves the model string {name!r}; {THREE_WAYS}")
        return self.models(model)

    def adapter_for(self, adapter: Adapter | None, model: LanguageModel) -> Adapter:
        """Return a module's own adapter, else this context's, else the model's natural one.

        That is JSON for a model that decodes under a schema (its reply cannot be malformed), and chat for all others.
        """
        return adapter or self.adapter or (_JSON if "constrained_decoding" in model.capabilities else _CHAT)

    def say(self, event: Event) -> None:
        """Tell the observer."""
        self.observer.on_event(event)


Record = Callable[[object, RunContext, Mapping[str, object]], Awaitable[Prediction]]
_CHAT = ChatAdapter()
_JSON = JSONAdapter()
ADAPTERS: dict[str, Adapter] = {"chat": _CHAT, "json": _JSON, "tools": ToolAdapter()}


class Memo:
    """The calls that one `forward` has made, in order, so that it can be run again without asking anew."""

    __slots__ = ("_entries", "_objections", "_replay")

    def __init__(self) -> None:
        self._entries: list[MemoEntry] = []
        self._replay: list[MemoEntry] = []
        self._objections: list[tuple[MemoEntry, str]] = []

    def record(self, module: object, inputs: Mapping[str, object], prediction: Prediction) -> Prediction:
        """Note a call and its answer."""
        self._entries.append(MemoEntry(module, inputs, prediction))
        return prediction

    def recall(self, module: object, inputs: Mapping[str, object]) -> Prediction | None:
        """Return what the same call answered in the last run of the `forward`, once for each time it was made."""
        for number, entry in enumerate(self._replay):
            if entry.module is module and entry.inputs == inputs:
                self._entries.append(self._replay.pop(number))
                return entry.prediction
        return None

    def objections(self, module: object, inputs: Mapping[str, object]) -> tuple[tuple[Prediction, str], ...]:
        """Return earlier answers to this call, each with what was wrong with it."""
        return tuple(
            (entry.prediction, message)
            for entry, message in self._objections
            if entry.module is module and entry.inputs == inputs
        )

    def retry_with(self, prediction: Prediction, message: str) -> "Memo | None":
        """Return the memo for another run in which the call that made `prediction` hears of `message`.

        None where no call of this `forward` made it.
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
    """One call: who was called, with what, and the answer."""

    module: object
    inputs: Mapping[str, object]
    prediction: Prediction


class Cancellation:
    """Ends every run that is given it, from any thread: requests under way are stopped, and none is made after.

    The runs raise `asyncio.CancelledError`.
    """

    __slots__ = ("_lock", "_watched", "is_cancelled")

    def __init__(self) -> None:
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._watched: dict[asyncio.Task[object], asyncio.AbstractEventLoop] = {}

    def cancel(self) -> None:
        """End them all; a second call does nothing."""
        with self._lock:
            self.is_cancelled = True
            watched, self._watched = self._watched, {}
        for task, loop in watched.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

    @contextmanager
    def watching(self, task: "asyncio.Task[object]") -> Iterator[None]:
        """Cancel `task` too, as long as the block lasts, or one around it for the same task."""
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
    """The one mutable cell: what `configure()` sets for the whole process."""

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
    """Return the context in force here: that of the enclosing block or module, else the process default."""
    return _current.get() or _default.get()


def update_default(change: Callable[[RunContext], RunContext]) -> None:
    """Replace the process default by what `change` makes of it, in one step."""
    _default.update(change)


@contextmanager
def use_context(context: RunContext) -> Iterator[RunContext]:
    """Make `context` the one in force inside the block, for this thread or task and those it starts."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def payload(value: object) -> str:
    """Return `value` as JSON text, cut at 64 KiB; what was cut is said at its end."""
    text = json_bytes(value, unknown=_to_jsonable).decode()
    if len(text) <= PAYLOAD_LIMIT:
        return text
    return f"{text[:PAYLOAD_LIMIT]}... (cut, {len(text)} characters)"


def _to_jsonable(value: object) -> object:
    """Return an instance as the data that it is written as, what has no JSON form as its text."""
    from pydantic_core import to_jsonable_python

    try:
        return to_jsonable_python(value, fallback=str)
    except ValueError:  # bytes that are no text, or a value that contains itself
        return str(value)


def without_run(context: RunContext) -> RunContext:
    """Return the context for a new run of its own."""
    if context.run is None:
        return context
    return replace(context, run=None, parent_id=None, path="", emit=None, memo=None, objections=())


def find_adapter(adapter: "Adapter | str | None") -> Adapter | None:
    """Return the adapter behind a name ("chat", "json", "tools"); an adapter or None is returned as it is.

    Raises:
        ConfigurationError: there is no adapter of this name.
    """
    if not isinstance(adapter, str):
        return adapter
    if adapter not in ADAPTERS:
        raise ConfigurationError(f"there is no adapter {adapter!r}; adapters are: {', '.join(ADAPTERS)}")
    return ADAPTERS[adapter]


async def call_guarded(context: RunContext, call: Callable[[RunContext], Awaitable[Prediction]]) -> Prediction:
    """Make one call under the deadline and the cancellation of `context`.

    Raises:
        DeadlineError: the deadline came before the answer.
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
            raise DeadlineError("the deadline of this run has passed before its answer came", limit="time") from None
