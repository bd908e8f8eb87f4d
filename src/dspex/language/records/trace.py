"""The trace of a run: a tree of finished spans."""

from typing import Literal

import msgspec

from dspex.language.records.usage import Usage
from dspex.notebook import lazy_html

SpanKind = Literal[
    "program", "module", "adapter", "model", "tool", "retrieval", "backend", "question"
]
_SPENDING = frozenset({"model", "retrieval", "program"})
SpanStatus = Literal["ok", "error", "cancelled"]


class Span(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One operation. Times are monotonic nanoseconds, comparable only within one trace.

    `path` is the path of the module in its program (`cot.predict`, `steps[0]`). `inputs_ref` and
    `outputs_ref` are capped JSON text, or None if payloads were not recorded.
    """

    trace_id: str
    span_id: int
    parent_id: int | None
    kind: SpanKind
    name: str
    path: str
    start_ns: int
    end_ns: int
    status: SpanStatus = "ok"
    error: str | None = None
    attributes: dict[str, object] = {}
    usage: Usage | None = None
    inputs_ref: str | None = None
    outputs_ref: str | None = None

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


class Trace(msgspec.Struct, frozen=True, gc=False):
    """The spans of one run in the order of their ends; the root is last.

    Spans of modules in a worker arrive together at the end of its part of the run.
    """

    trace_id: str = ""
    spans: tuple[Span, ...] = ()

    @property
    def usage(self) -> Usage:
        """The total usage of all model calls, searches and stored programs of the run."""
        total = Usage()
        for span in self.spans:
            if span.usage is not None and span.kind in _SPENDING:
                total += span.usage
        return total

    _repr_html_ = lazy_html("dspex.language.records.representation:trace_html")

    def to_json(self) -> str:
        """Return the trace as JSON text; `from_json` is its inverse."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Trace":
        """Read what `to_json` wrote."""
        return msgspec.json.decode(text, type=cls)
