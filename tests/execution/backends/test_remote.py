"""Events from a worker during a run."""

import pytest

from dspex.clock import SystemClock
from dspex.execution.backends.remote import Answerer
from dspex.execution.context import RunContext
from dspex.execution.frame import TraceRecorder
from dspex.telemetry import Collecting
from dspex.testing import FakeClock
from dspex.testing.backends import answering


def answering_for(path="self", clock=None):
    observer = Collecting()
    context = RunContext(observer=observer, clock=clock or SystemClock())
    run = TraceRecorder(observer, context.clock, {})
    span = run.begin("backend", "there", parent_id=None, path=path)
    return Answerer(context=context, span=span, model=answering({})), run, observer


@pytest.mark.parametrize(
    "data", [None, 3, {}, [[1]], [["a", None, "module", "P", "self", 1, 2]], [[1, None, "x", "P"]]]
)
def test_spans_that_are_none_are_said_and_left_out(data):
    answerer, run, observer = answering_for()
    answerer.on_event("spans", data)
    assert run.spans == []
    assert [event.name for event in observer.events] == ["log"]
    assert "sent invalid spans" in observer.events[0].message


def test_a_workers_spans_have_their_place_in_the_whole_program_and_times_of_the_callers_clock():
    clock = FakeClock()
    answerer, run, observer = answering_for("steps[0]", clock)
    now = SystemClock().monotonic_ns()
    rows = [[2, 1, "module", "Predict", "answer", now - 50, now - 20, "ValueError: no"]]
    answerer.on_event("spans", [*rows, [1, None, "module", "Rag", "self", now - 60, now - 10]])
    inner, outer = run.spans
    assert (inner.path, outer.path) == ("steps[0].answer", "steps[0]")
    assert (inner.parent_id, outer.parent_id) == (outer.span_id, answerer.span.id)
    assert (inner.status, outer.status) == ("error", "ok")
    assert inner.end_ns - inner.start_ns == 30
    assert outer.end_ns <= clock.monotonic_ns()
    assert observer.spans == run.spans
