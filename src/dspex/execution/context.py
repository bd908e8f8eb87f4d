"""What a run is given: model, adapter, observer and the like; and the record that it keeps.

Found in this order: an explicit argument, the enclosing `with context(...)` or running module, the process default,
else an error that shows how to set one.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import msgspec
import uuid_utils

from dspex.clock import Clock, SystemClock
from dspex.errors import ConfigurationError
from dspex.execution.adapters import Adapter, ChatAdapter, JSONAdapter
from dspex.execution.clients import LanguageModel
from dspex.language.records import Span, SpanKind, SpanStatus, Usage
from dspex.telemetry import Event, Observer, Silent

PAYLOAD_LIMIT = 64 * 1024
_SILENT = Silent()
_CLOCK = SystemClock()
THREE_WAYS = """no model is set. Set one in one of three ways:
  dspex.configure(model="local/gemma3-270m")              # for the whole process
  with dspex.context(model="openai/gpt-4o-mini"): ...     # for a block
  dspex.Predict(signature, model="http://host/v1#name")   # for one module"""


class Run:
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
        return OpenSpan(self, self._next, kind=kind, name=name, parent_id=parent_id, path=path)

    def below(self, span_id: int, *, first: int) -> tuple[Span, ...]:
        """Return span `span_id` and all below it, among those recorded from index `first` on."""
        inside, kept = {span_id}, []
        for span in reversed(self.spans[first:]):
            if span.span_id in inside or span.parent_id in inside:
                inside.add(span.span_id)
                kept.append(span)
        return tuple(reversed(kept))


class OpenSpan:
    """A span under way."""

    __slots__ = ("id", "inputs", "kind", "name", "parent_id", "path", "run", "start_ns")

    def __init__(self, run: Run, number: int, *, kind: SpanKind, name: str, parent_id: int | None, path: str) -> None:
        """Begin now."""
        self.run = run
        self.id = number
        self.kind: SpanKind = kind
        self.name = name
        self.parent_id = parent_id
        self.path = path
        self.inputs: str | None = None
        self.start_ns = run.clock.monotonic_ns()

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
            error=None if error is None else f"{type(error).__name__}: {error}"[:2000],
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
    keep messages and replies (cut at 64 KiB). `run`, `parent_id` and `path` place a module in the run under way.
    """

    model: LanguageModel | None = None
    adapter: Adapter | None = None
    observer: Observer = _SILENT
    models: Callable[[str], LanguageModel] | None = None
    seed: int | None = None
    records_payloads: bool = False
    clock: Clock = _CLOCK
    run: Run | None = None
    parent_id: int | None = None
    path: str = ""

    def model_for(self, own: LanguageModel | str | None) -> LanguageModel:
        """Return a module's own model, else this context's.

        Raises:
            ConfigurationError: there is none, or nobody here resolves model strings.
        """
        if own is None:
            if self.model is None:
                raise ConfigurationError(THREE_WAYS)
            return self.model
        if not isinstance(own, str):
            return own
        if self.models is None:
            raise ConfigurationError(f"nothing here resolves the model string {own!r}; {THREE_WAYS}")
        return self.models(own)

    def adapter_for(self, own: Adapter | None, model: LanguageModel) -> Adapter:
        """Return a module's own adapter, else this context's, else the model's natural one.

        That is JSON for a model that decodes under a schema (its reply cannot be malformed), and chat for all others.
        """
        return own or self.adapter or (_JSON if "constrained_decoding" in model.capabilities else _CHAT)

    def say(self, event: Event) -> None:
        """Tell the observer."""
        self.observer.on_event(event)


_CHAT = ChatAdapter()
_JSON = JSONAdapter()
ADAPTERS: dict[str, Adapter] = {"chat": _CHAT, "json": _JSON}


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
def entered(context: RunContext) -> Iterator[RunContext]:
    """Make `context` the one in force inside the block, for this thread or task and those it starts."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def payload(value: object) -> str:
    """Return `value` as JSON text, cut at 64 KiB; what was cut is said at its end."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    if len(text) <= PAYLOAD_LIMIT:
        return text
    return f"{text[:PAYLOAD_LIMIT]}... (cut, {len(text)} characters)"


def without_run(context: RunContext) -> RunContext:
    """Return the context for a new run of its own."""
    return context if context.run is None else replace(context, run=None, parent_id=None, path="")


def adapter_named(given: "Adapter | str | None") -> Adapter | None:
    """Return the adapter behind a name ("chat", "json"); an adapter or None is returned as it is.

    Raises:
        ConfigurationError: there is no adapter of this name.
    """
    if not isinstance(given, str):
        return given
    if given not in ADAPTERS:
        raise ConfigurationError(f"there is no adapter {given!r}; adapters are: {', '.join(ADAPTERS)}")
    return ADAPTERS[given]
