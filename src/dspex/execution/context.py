"""The context of a run: model, adapter, observer and limits.

A value is looked up in this order: explicit argument, enclosing `with context(...)` or running
module, process default. If there is none, an error shows how to set it.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from dspex.clock import Clock, SystemClock
from dspex.errors import ConfigurationError, DeadlineError
from dspex.execution.adapters import Adapter
from dspex.execution.adapters.registry import CHAT, JSON
from dspex.execution.clients import Budgeted, LanguageModel
from dspex.execution.clients.address import without_credentials
from dspex.execution.clients.rollout import Rollout
from dspex.execution.frame import (
    OUTSIDE,
    CallListener,
    EmitEvent,
    Frame,
    Memo,
    OpenSpan,
    TraceRecorder,
)
from dspex.execution.question import AnswerCallback, DurableRun
from dspex.execution.team_run import TeamRun
from dspex.language.programs import ROOT
from dspex.language.records import Prediction, SpanKind
from dspex.telemetry import Event, Observer, Silent

if TYPE_CHECKING:
    from dspex.execution.clients import Budget
    from dspex.execution.clients.embedder import Embedder
    from dspex.execution.retrieval.retriever import Searchable

_SILENT = Silent()
_CLOCK = SystemClock()
DEFAULT_EMBEDDER = "offline"
THREE_WAYS = """no model is set. Set one in one of three ways:
  dspex.configure(model="local/gemma3-270m")              # for the whole process
  with dspex.context(model="openai/gpt-4o-mini"): ...     # for a block
  dspex.Predict(signature, model="http://host/v1#name")   # for one module
The command line and the server take --model, DSPEX_MODEL, or `model = ...` in dspex.toml."""


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller wishes of a run; immutable and safe to share.

    - `models` resolves the model strings that modules carry, `embedders` the names of embedders and
      `collections` those of stored collections; `wrapper` wraps every model of the run, wherever it
      is named; see `with_wrapper`.
    - `programs` executes stored programs; see `StoredProgram`.
    - `records_payloads`: spans of model calls keep messages and replies (cut at 64 KiB).
    - `rollout` numbers the attempts of `Retry`, so that no attempt gets a cached reply of another.
    - `deadline` is a time of the clock in monotonic nanoseconds. All runs that get the same
      `budget` or `cancellation` share it.
    - `answer` answers the questions of `ask`; without it, a run on a server waits.
    - `record` executes and stores each run of a whole program instead of the module (`dspex.open`);
      None: that of the process does, if there is one; False: nothing does.
    - `frame` is where the run stands; the modules set it.
    """

    model: LanguageModel | None = None
    embedder: "Embedder | str | None" = None
    adapter: Adapter | None = None
    observer: Observer = _SILENT
    models: Callable[[str], LanguageModel] | None = None
    embedders: "Callable[[str], Embedder] | None" = None
    collections: "Callable[[str], Searchable] | None" = None
    programs: "RunProgram | None" = None
    wrapper: Callable[[LanguageModel], LanguageModel] | None = None
    seed: int | None = None
    rollout: int = 0
    records_payloads: bool = False
    clock: Clock = _CLOCK
    deadline: int | None = None
    budget: "Budget | None" = None
    cancellation: "Cancellation | None" = None
    answer: AnswerCallback | None = None
    record: "Record | Literal[False] | None" = None
    frame: Frame = OUTSIDE

    @property
    def is_bounded(self) -> bool:
        """Whether a run that starts here has to enforce deadline or cancellation itself."""
        return (
            self.deadline is not None or self.cancellation is not None
        ) and not self.frame.is_guarded

    @property
    def is_recorded(self) -> bool:
        """Whether a run that starts here is stored."""
        return self.frame.recorder is None and self.active_record is not None

    @property
    def active_record(self) -> "Record | None":
        """What stores a run that starts here, also if it was opened after this context."""
        record = _default.get().record if self.record is None else self.record
        return None if record is False else record

    def within(self, seconds: float) -> "RunContext":
        """Return the context with a deadline `seconds` from now, unless it has an earlier one."""
        until = self.clock.monotonic_ns() + int(seconds * 1e9)
        if self.deadline is not None and self.deadline <= until:
            return self
        return replace(self, deadline=until, frame=self._frame_with(is_guarded=False))

    def with_wrapper(self, wrapper: Callable[[LanguageModel], LanguageModel]) -> "RunContext":
        """Return the context with every model wrapped by `wrapper`, outside of earlier wrappers."""
        inner = self.wrapper
        if inner is None:
            return replace(self, wrapper=wrapper)
        return replace(self, wrapper=lambda model: wrapper(inner(model)))

    def answered_by(self, answer: AnswerCallback) -> "RunContext":
        """Return the context in which `answer` answers the questions of `ask`."""
        return replace(self, answer=answer)

    def cancelled_by(self, cancellation: "Cancellation") -> "RunContext":
        """Return the context of runs that `cancellation` cancels."""
        frame = self._frame_with(is_guarded=False)
        return replace(self, cancellation=cancellation, frame=frame)

    def listening(
        self, *, emit: EmitEvent | None = None, on_call: CallListener | None = None
    ) -> "RunContext":
        """Return the context with listeners to the run; see `Frame`."""
        listeners: dict[str, Any] = {"emit": emit, "on_call": on_call}
        return replace(
            self,
            frame=self._frame_with(
                **{name: item for name, item in listeners.items() if item is not None}
            ),
        )

    def part_of(self, execution_id: UUID | None) -> "RunContext":
        """Return the context for runs that belong to a stored execution."""
        return replace(self, frame=self._frame_with(execution_id=execution_id))

    def durable(self, run: DurableRun) -> "RunContext":
        """Return the context of a run that `run` remembers, apart from its model calls."""
        return replace(self, frame=self._frame_with(durable=run))

    def within_team(self, run: TeamRun) -> "RunContext":
        """Return the context of work for a team, under its limits."""
        context = replace(self, frame=self._frame_with(team=run))
        if run.budget is None:
            return context
        return context.with_wrapper(partial(Budgeted, budget=run.budget))

    def advised(self, advice: Mapping[str, str]) -> "RunContext":
        """Return the context in which predictors get this advice, by path; see `Frame`."""
        return replace(self, frame=self._frame_with(advice=advice))

    def remembering(self, memo: Memo) -> "RunContext":
        """Return the context of another run of a `forward`, which repeats the calls of `memo`."""
        return replace(self, frame=self._frame_with(memo=memo))

    def below(self, span: OpenSpan) -> "RunContext":
        """Return the context for work inside `span`."""
        return replace(self, frame=self._frame_with(span_id=span.id, memo=None))

    def begin(self, kind: SpanKind, name: str) -> OpenSpan:
        """Begin a span at the place of this context; outside of a run, it begins a run."""
        frame = self.frame
        recorder = frame.recorder or TraceRecorder(self.observer, self.clock, {})
        return recorder.begin(kind, name, parent_id=frame.span_id, path=frame.path or str(ROOT))

    def _frame_with(self, **changes: Any) -> Frame:
        return replace(self.frame, **changes)

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
        if self.wrapper is not None:
            resolved = self.wrapper(resolved)
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

    def embedder_for(self, embedder: "Embedder | str") -> "Embedder":
        """Return an embedder itself, or the one with a name, within the budget of this context.

        "default" is the embedder of this context, or the offline one.

        Raises:
            ConfigurationError: the name is unknown, or this context cannot resolve names.
        """
        if embedder == "default":
            embedder = self.embedder or DEFAULT_EMBEDDER
        if isinstance(embedder, str):
            if self.embedders is None:
                raise ConfigurationError(f"this context cannot resolve the embedder {embedder!r}")
            embedder = self.embedders(embedder)
        if self.budget is None:
            return embedder
        from dspex.execution.clients.wrapped_embedder import WrappedEmbedder

        return WrappedEmbedder(embedder, partial(Budgeted, budget=self.budget))

    def collection_for(self, name: str) -> "Searchable":
        """Return the stored collection with a name.

        Raises:
            ConfigurationError: this context has no stored collections.
        """
        if self.collections is None:
            raise ConfigurationError(
                f"the collection {name!r} is stored, but this process has no store: use "
                "dspex.open, `dspex run` or a server, or give Retrieve a dspex.Collection"
            )
        return self.collections(name)

    def adapter_for(self, adapter: Adapter | None, model: LanguageModel) -> Adapter:
        """Return `adapter`, else the adapter of this context, else the default for `model`.

        The default is JSON if the model decodes under a schema (its replies are always
        well-formed), otherwise chat.
        """
        return (
            adapter
            or self.adapter
            or (JSON if "constrained_decoding" in model.capabilities else CHAT)
        )

    def say(self, event: Event) -> None:
        """Pass an event to the observer."""
        self.observer.on_event(event)


RunProgram = Callable[[str, Mapping[str, Any]], Awaitable[Prediction]]
"""Executes a stored program by its name, inside the current execution."""
Record = Callable[[object, RunContext, Mapping[str, object]], Awaitable[Prediction]]


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


def process_default() -> RunContext:
    """Return the process default, which calls outside of blocks use."""
    return _default.get()


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


def without_run(context: RunContext) -> RunContext:
    """Return the context for a separate run, which tells the listeners of this one nothing."""
    frame = context.frame
    if frame.recorder is None:
        return context
    outside = Frame(
        is_guarded=frame.is_guarded,
        loop=frame.loop,
        execution_id=frame.execution_id,
        team=frame.team,
        durable=frame.durable,
    )
    return replace(context, frame=outside)


async def call_guarded(
    context: RunContext, call: Callable[[RunContext], Awaitable[Prediction]]
) -> Prediction:
    """Make one call, bounded by the deadline and cancellation of `context`.

    Raises:
        DeadlineError: the deadline passed before the answer.
    """
    context.check()
    inside = replace(context, frame=replace(context.frame, is_guarded=True))
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
