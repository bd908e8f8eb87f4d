"""Where a run stands: the recorder of its trace, its open spans, and the frame of one call."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import uuid_utils

from dspex.clock import Clock
from dspex.error_text import CodeFrame
from dspex.errors import ModelError, describe
from dspex.execution.question import DurableRun
from dspex.execution.team_run import TeamRun
from dspex.failures import user_frames
from dspex.language.records import Prediction, Span, SpanKind, SpanStatus, Trace, Usage
from dspex.language.records.canonical import json_bytes
from dspex.language.records.media_types import shorten_data_uris
from dspex.telemetry import Observer, StreamEvent

PAYLOAD_LIMIT = 64 * 1024
EmitEvent = Callable[[StreamEvent], Awaitable[None]]
CallListener = Callable[[str, Mapping[str, object], Mapping[str, object]], None]


class TraceRecorder:
    """Records the finished spans of one run of a program. Owned by one event loop."""

    __slots__ = ("_next", "_places", "clock", "observer", "paths", "spans", "trace_id")

    def __init__(self, observer: Observer, clock: Clock, paths: Mapping[int, str]) -> None:
        """Start without spans; `paths` maps the `id()` of each module to its path."""
        self.paths = paths
        self.trace_id = uuid_utils.uuid7().hex
        self.observer = observer
        self.clock = clock
        self.spans: list[Span] = []
        self._next = 0
        self._places: dict[int | None, CodeFrame] = {}

    def begin(self, kind: SpanKind, name: str, *, parent_id: int | None, path: str) -> "OpenSpan":
        """Start a span; it is recorded when it ends."""
        self._next += 1
        return OpenSpan(self, self._next, kind, name, parent_id, path, self.clock.monotonic_ns())

    def frames(self, span_id: int, error: BaseException) -> list[CodeFrame]:
        """Return the user's lines behind an error, unless a span inside this one shows them."""
        frames = user_frames(error)
        return [] if frames and self._places.get(span_id) == frames[-1] else frames

    def add(self, span: Span) -> None:
        """Record a finished span and pass it to the observer."""
        if span.error is not None:
            frames: Any = span.attributes.get("frames")
            place = frames[-1] if frames else self._places.pop(span.span_id, None)
            if place is not None:
                self._places[span.parent_id] = place
        self.spans.append(span)
        self.observer.on_span(span)

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
        """End the span now, record it and pass it to the observer.

        Of an error, the innermost span that the user's code is in has its lines as `frames`.
        """
        if isinstance(error, ModelError) and self.kind == "model" and error.route is not None:
            attributes = {**(attributes or {}), "route": error.route}
        if isinstance(error, Exception) and (frames := self.run.frames(self.id, error)):
            attributes = {**(attributes or {}), "frames": frames}
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
        self.run.add(span)
        return span


def _status(error: BaseException | None) -> SpanStatus:
    if error is None:
        return "ok"
    return "error" if isinstance(error, Exception) else "cancelled"


class Memo:
    """The calls of one `forward` in order, so that it can run again without repeating them."""

    __slots__ = ("_entries", "_objections", "_replay", "unmet")

    def __init__(self) -> None:
        self.unmet: list[str] = []  # the messages of suggestions that were not met
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

    @property
    def reasons(self) -> list[str]:
        """The messages of all failed conditions that led to this run of `forward`."""
        return [message for _, message in self._objections]

    def can_refuse(self, prediction: Prediction, message: str, *, most: int) -> bool:
        """Return whether a call made `prediction`, and was refused with `message` less often."""
        for entry in self._entries:
            if entry.prediction is prediction:
                refused = self.objections(entry.module, entry.inputs)
                return sum(reason == message for _, reason in refused) < most
        return False

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


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a call in its run, and who listens to the run. Internal; see `RunContext`.

    - `recorder`, `span_id` and `path` are the trace, the enclosing span and the module of the call.
    - `memo` and `objections` implement `Assert`.
    - `advice` is what predictors are told about earlier attempts, by path; "" is for all of them.
    - `is_guarded`: an outer call already enforces deadline and cancellation.
    - `emit` receives events during the run, see `Module.stream`; `on_call` receives the path,
      inputs and outputs of each predictor after its answer.
    - `loop` owns the backends of the run; a `forward` may run on another one.
    - `execution_id` is the stored execution that the run is part of; `durable` is its memory if it
      can wait for people.
    - `team` is the run of the innermost team around the call; its limits apply to the call, too.
    """

    recorder: TraceRecorder | None = None
    span_id: int | None = None
    path: str = ""
    memo: Memo | None = None
    objections: tuple[tuple[Prediction, str], ...] = ()
    advice: Mapping[str, str] = {}
    is_guarded: bool = False
    emit: EmitEvent | None = None
    on_call: CallListener | None = None
    loop: asyncio.AbstractEventLoop | None = None
    execution_id: UUID | None = None
    team: TeamRun | None = None
    durable: DurableRun | None = None


OUTSIDE = Frame()  # of any run


def payload(value: object) -> str:
    """Return `value` as JSON text with short data URIs, cut at 64 KiB with a note at the end."""
    text = shorten_data_uris(json_bytes(value, unknown=to_jsonable).decode())
    if len(text) <= PAYLOAD_LIMIT:
        return text
    return f"{text[:PAYLOAD_LIMIT]}... (cut, {len(text)} characters)"


def to_jsonable(value: object) -> object:
    """Return an instance as its JSON data, and a value without a JSON form as text."""
    from pydantic_core import to_jsonable_python

    try:
        return to_jsonable_python(value, fallback=str)
    except ValueError:  # bytes that are not text, or a value that contains itself
        return str(value)
