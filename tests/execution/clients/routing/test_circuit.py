"""Circuits, with any sequence of results at any times."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import DefinitionError
from dspex.execution.clients.routing import Circuit, CircuitLimits

LIMITS = CircuitLimits(window=30, ratio=0.5, minimum=10, consecutive=5, interval=5)


def fail(circuit, times, now=0.0):
    for _ in range(times):
        circuit = circuit.after_failure(LIMITS, now, "status 500")
    return circuit


def test_five_failures_in_a_row_open_it_and_the_fifth_counts_at_once():
    circuit = fail(Circuit(), 4)
    assert circuit.admits(0.0)
    circuit = fail(circuit, 1)
    assert not circuit.admits(4.9)
    assert circuit.admits(5.0)
    assert circuit.reason == "5 failures in a row, the last: status 500"


def test_half_of_the_calls_in_a_window_open_it_without_a_row():
    circuit = Circuit()
    for number in range(5):
        circuit = circuit.after_success(LIMITS, number, number)
        assert circuit.opened_at is None
        circuit = circuit.after_failure(LIMITS, number, "status 500")
    assert circuit.reason.startswith("5 of 10 calls failed")


def test_failures_older_than_the_window_do_not_count():
    circuit = Circuit()
    for number in range(40):
        circuit = circuit.after_success(LIMITS, number * 40.0, number * 40.0)
        circuit = circuit.after_failure(LIMITS, number * 40.0, "status 500")
    assert circuit.opened_at is None


def test_a_success_from_before_it_opened_does_not_close_it():
    circuit = fail(Circuit(), 5, now=10.0)
    assert circuit.after_success(LIMITS, 11.0, asked_at=9.0) is circuit
    assert circuit.after_success(LIMITS, 16.0, asked_at=15.0).opened_at is None


def test_a_rate_limit_opens_it_at_once_for_as_long_as_it_asks():
    circuit = Circuit().after_rate_limit(LIMITS, 1.0, 40.0)
    assert not circuit.admits(40.9)
    assert circuit.admits(41.0)
    assert circuit.after_rate_limit(LIMITS, 2.0, 1.0).probe_at == 41.0
    assert circuit.after_failure(LIMITS, 2.0, "status 500").probe_at == 41.0


def test_rate_limits_without_a_number_double_up_to_the_interval():
    circuit, seconds = Circuit(), []
    for _ in range(5):
        circuit = circuit.after_rate_limit(LIMITS, 0.0, None)
        seconds.append(circuit.probe_at)
        later = circuit.after_success(LIMITS, 0.0, 0.0)
        circuit = Circuit(failures_in_row=len(seconds), half_start=later.half_start)
    assert seconds == [1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(
    "limits", [{"window": 0}, {"ratio": 1.5}, {"interval": -1}, {"consecutive": "5"}]
)
def test_limits_out_of_range_are_refused(limits):
    with pytest.raises(DefinitionError, match=next(iter(limits))):
        CircuitLimits(**limits)


RESULTS = st.lists(
    st.tuples(st.floats(0, 4), st.sampled_from(["success", "failure", "limit"])), max_size=200
)


@settings(deadline=None)
@given(RESULTS)
def test_open_circuits_admit_one_probe_in_an_interval_and_a_probe_that_succeeds_closes(results):
    circuit, now, probes = Circuit(), 0.0, []
    for pause, result in results:
        now += pause
        if not circuit.admits(now):
            continue
        is_probe = circuit.opened_at is not None
        if is_probe:
            probes.append(now)
            circuit = circuit.after_probe(LIMITS, now)
            assert not circuit.admits(now)
        if result == "success":
            circuit = circuit.after_success(LIMITS, now, now)
            assert circuit.opened_at is None
            probes = []
        elif result == "failure":
            circuit = circuit.after_failure(LIMITS, now, "status 500")
        else:
            circuit = circuit.after_rate_limit(LIMITS, now, 5.0)
    assert all(later - earlier >= 5 for earlier, later in itertools.pairwise(probes))


@settings(deadline=None)
@given(RESULTS)
def test_it_never_stays_closed_after_five_failures_in_a_row(results):
    circuit, now, in_row = Circuit(), 0.0, 0
    for pause, result in results:
        now += pause
        if circuit.opened_at is not None:
            return
        in_row = 0 if result == "success" else in_row + 1
        if result == "success":
            circuit = circuit.after_success(LIMITS, now, now)
        else:
            circuit = circuit.after_failure(LIMITS, now, "status 500")
        assert (circuit.opened_at is not None) >= (in_row >= 5)
