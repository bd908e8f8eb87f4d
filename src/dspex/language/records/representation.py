"""Examples, passages, predictions and traces in notebooks."""

from collections.abc import Iterator

from dspex.error_text import quantity
from dspex.failures import frames_text
from dspex.language.records.example import Example
from dspex.language.records.passage import Passage
from dspex.language.records.prediction import Prediction
from dspex.language.records.trace import Span, Trace
from dspex.language.records.usage import Usage
from dspex.markup import (
    Content,
    Markup,
    badge,
    element,
    facts,
    folded,
    fragment,
    join,
    preformatted,
    shown_value,
    table,
    value_text,
)
from dspex.markup.drawings import timeline_drawing

_MOST_SPANS = 200


def prediction_html(prediction: Prediction) -> str:
    """Return the fields, what they cost, and the trace, folded."""
    rows = [(name, value_cell(value)) for name, value in prediction.items()]
    trace, usage = prediction.trace, prediction.usage
    note = usage_text(usage) if usage.calls else None
    return fragment(
        table(("field", "value"), rows),
        element("p", note, class_="note") if note else None,
        folded("trace", _spans(trace)) if trace.spans else None,
    )


def usage_html(usage: Usage) -> str:
    """Return calls, tokens and cost, in all and by model."""
    rows = [("all" if usage.by_model else "", usage), *usage.by_model.items()]
    cells = [(name, usage_text(part)) for name, part in rows]
    return fragment(table(("model", "usage"), cells))


def example_html(example: Example) -> str:
    """Return the fields with their values."""
    rows = [(name, value_cell(value)) for name, value in example.items()]
    return fragment(table(("field", "value"), rows))


def passage_html(passage: Passage) -> str:
    """Return the text, and where it is from."""
    place = None if passage.start is None else f"characters {passage.start} to {passage.end}"
    notes = {
        "document": passage.document,
        "version": None if passage.version is None else str(passage.version),
        "place": place,
        "score": f"{passage.score:.3f}" if passage.score else None,
        **{name: value_text(value) for name, value in passage.metadata.items()},
    }
    return fragment(
        element("p", value_cell(passage.text), class_="value"),
        folded("source", facts({name: note for name, note in notes.items() if note})),
    )


def trace_html(trace: Trace) -> str:
    """Return the spans as a tree, with their times as bars."""
    return fragment(
        element("p", usage_text(trace.usage), class_="note"),
        _spans(trace) if trace.spans else element("p", "An empty trace.", class_="note"),
    )


def value_cell(value: object) -> Markup:
    """Return any value as people read it, folded if it is long."""
    text = value_text(value)
    return shown_value(join(text), len(text), text)


def usage_text(usage: Usage) -> str:
    """Return calls, tokens, cost and models in one line."""
    cost = "unknown cost" if usage.cost_usd is None else f"${usage.cost_usd:.6f}"
    models = f", {', '.join(usage.by_model)}" if usage.by_model else ""
    calls = quantity(usage.calls, "call")
    return f"{calls}, {usage.input_tokens:,} + {usage.output_tokens:,} tokens, {cost}{models}"


def _spans(trace: Trace) -> Markup:
    start = min(span.start_ns for span in trace.spans)
    whole = max(max(span.end_ns for span in trace.spans) - start, 1)
    rows = [_line(span, depth, start, whole=whole) for span, depth in _in_order(trace)]
    note = f"The first {_MOST_SPANS} of {len(rows)} spans." if len(rows) > _MOST_SPANS else None
    head = ("span", "what", "ms", "when", "tokens", "status")
    spans = table(head, rows[:_MOST_SPANS], numeric=(2, 4))
    return join(spans, element("p", note, class_="note") if note else None)


def _in_order(trace: Trace) -> Iterator[tuple[Span, int]]:
    """Yield each span with its depth, parents first, in the order of their starts."""
    ids = {span.span_id for span in trace.spans}
    children: dict[int | None, list[Span]] = {}
    for span in sorted(trace.spans, key=lambda span: (span.start_ns, span.span_id)):
        parent = span.parent_id if span.parent_id in ids else None
        children.setdefault(parent, []).append(span)
    waiting = [(span, 0) for span in reversed(children.pop(None, []))]
    while waiting:
        span, depth = waiting.pop()
        yield span, depth
        waiting += [(child, depth + 1) for child in reversed(children.pop(span.span_id, []))]


def _line(span: Span, depth: int, start: int, *, whole: int) -> tuple[Content, ...]:
    left, right = (span.start_ns - start) / whole, (span.end_ns - start) / whole
    tone = "" if span.status == "ok" else "bad" if span.status == "error" else "warn"
    status = badge(span.status, tone) if span.status != "ok" else "ok"
    error = element("span", f" {span.error}", class_="value") if span.error else None
    frames = span.attributes.get("frames")
    lines = preformatted(frames_text(frames)) if isinstance(frames, list | tuple) else None
    return (
        ("\u00a0\u00a0\u00a0" * depth, span.path or span.name),
        f"{span.kind} {span.name}",
        f"{span.seconds * 1000:,.1f}",
        timeline_drawing(left, right),
        None if span.usage is None else f"{span.usage.total_tokens:,}",
        (status, error, lines),
    )
