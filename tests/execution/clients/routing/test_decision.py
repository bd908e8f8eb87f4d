"""`decide`: the same state gives the same action, whatever the state is."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import DefinitionError, ModelUnavailableError, RefusedError
from dspex.execution.clients.routing import (
    POLICIES,
    Ask,
    CallState,
    Circuit,
    EndpointState,
    Stop,
    Wait,
    decide,
    find_policy,
)
from dspex.execution.clients.routing.decision import excludes
from dspex.execution.clients.routing.latency import LatencyFigures

OPEN = Circuit(opened_at=0.0, probe_at=50.0, reason="5 failures in a row")
DOWN = ModelUnavailableError("status 500")


def endpoint(label="a", **more):
    return EndpointState(label=label, **more)


def state_of(*endpoints, **more):
    return CallState(**{"now": 10.0, "attempts": 4, **more}, endpoints=endpoints)


def figures(median, late=1.0, usual=None):
    return LatencyFigures(median, late, median if usual is None else usual)


CIRCUITS = st.builds(
    Circuit,
    opened_at=st.none() | st.floats(0, 10),
    probe_at=st.floats(0, 40),
    reason=st.just("down"),
)
ENDPOINTS = st.builds(
    EndpointState,
    label=st.uuids().map(str),
    weight=st.floats(0.1, 9),
    price=st.none() | st.floats(0, 9),
    circuit=CIRCUITS,
    kinds=st.dictionaries(st.sampled_from(["refusal", "cut reply", "schema"]), CIRCUITS),
    reply=st.builds(
        LatencyFigures, st.none() | st.floats(0, 9), st.none() | st.floats(0, 9), st.floats(0, 9)
    ),
)


@st.composite
def states(draw):
    endpoints = tuple(draw(st.lists(ENDPOINTS, min_size=1, max_size=5)))
    indices = st.integers(0, len(endpoints) - 1)
    attempts = tuple(draw(st.lists(indices, max_size=6)))
    return CallState(
        now=draw(st.floats(0, 60)),
        endpoints=endpoints,
        attempts=draw(st.integers(0, 5)),
        patience=draw(st.floats(-1, 20)),
        draw=draw(st.floats(0, 0.999)),
        asked=attempts,
        excluded=frozenset(draw(st.sets(st.sampled_from(attempts)))) if attempts else frozenset(),
        is_streamed=draw(st.booleans()),
        has_chunks=draw(st.booleans()),
        has_schema=draw(st.booleans()),
        hedges=draw(st.floats(0, 3)),
    )


@settings(deadline=None)
@given(states(), st.sampled_from([*POLICIES.values()]), st.sampled_from([None, DOWN]))
def test_an_action_never_breaks_the_rules(state, policy, error):
    action = decide(policy, state, error)
    assert action == decide(policy, state, error)
    candidates = [
        index
        for index, item in enumerate(state.endpoints)
        if item.circuit.admits(state.now) and index not in state.excluded
    ]
    if isinstance(action, Ask):
        item = state.endpoints[action.endpoint]
        assert action.endpoint in candidates
        assert state.attempts > 0
        assert not (state.has_chunks and error)
        assert action.is_probe == (item.circuit.opened_at is not None)
        assert set(action.rejected) == {each.label for each in state.endpoints} - {item.label}
        assert all(action.rejected.values())
        unasked = [index for index in candidates if index not in state.asked]
        repeats = policy.repeats if action.endpoint == 0 else 0
        if unasked:  # nobody is asked twice before all others were asked
            assert state.asked.count(action.endpoint) <= repeats
        if action.hedge is not None:
            assert policy.hedges
            assert state.hedges >= 1
            assert not action.is_probe
    elif isinstance(action, Wait):
        others = {*range(len(state.endpoints))} - {*state.asked}
        assert not candidates or others
        assert not others & {*candidates}
        assert 0 <= action.seconds <= state.patience
    else:
        is_over = state.attempts <= 0 or (state.has_chunks and error is not None)
        assert is_over or not candidates


def action_of(policy, state, error):
    """Return the action as `Any`: which one it is belongs to what a test asserts."""
    action: Any = decide(policy, state, error)
    return action


def test_an_open_circuit_is_left_out_with_its_reason():
    action = action_of(
        POLICIES["fallback"], state_of(endpoint("a", circuit=OPEN), endpoint("b")), None
    )
    assert action == Ask(1, "first in order", {"a": "open for 40.0 s more: 5 failures in a row"})


def test_primary_asks_the_first_model_twice_and_fallback_does_not():
    state = state_of(endpoint("a"), endpoint("b"), asked=(0,))
    assert action_of(POLICIES["primary"], state, DOWN).endpoint == 0
    assert action_of(POLICIES["fallback"], state, DOWN).endpoint == 1
    state = state_of(endpoint("a"), endpoint("b"), asked=(0, 0))
    assert action_of(POLICIES["primary"], state, DOWN).endpoint == 1


def test_cost_takes_the_cheapest_and_unknown_prices_last():
    state = state_of(endpoint("a"), endpoint("b", price=3.0), endpoint("c", price=0.5))
    order = [*POLICIES["cost"].rank(state)]
    assert order == [2, 1, 0]


def test_latency_takes_the_fastest_and_measures_the_others_in_one_of_twenty_calls():
    parts = (endpoint("a", reply=figures(0.5)), endpoint("b", reply=figures(0.1)))
    endpoints = {
        draw: action_of(POLICIES["latency"], state_of(*parts, draw=draw), None).endpoint
        for draw in (0.01, 0.04, 0.06, 0.9)
    }
    assert endpoints == {0.01: 1, 0.04: 0, 0.06: 1, 0.9: 1}


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 0), (0.2, 0), (0.3, 1), (0.99, 1)])
def test_weights_divide_the_draws(draw, expected):
    state = state_of(endpoint("a", weight=1.0), endpoint("b", weight=3.0), draw=draw)
    assert action_of(POLICIES["weighted"], state, None).endpoint == expected


def test_a_probe_that_is_due_does_not_wait_for_its_weight():
    due = Circuit(opened_at=0.0, probe_at=9.0)
    state = state_of(endpoint("a", weight=99.0), endpoint("b", weight=1.0, circuit=due))
    assert action_of(POLICIES["weighted"], state, None).is_probe


def test_an_endpoint_that_misses_schemas_comes_last_for_calls_with_a_schema_only():
    weak = endpoint("a", kinds={"schema": Circuit(opened_at=0.0, probe_at=50.0, reason="3 of 4")})
    state = state_of(weak, endpoint("b"))
    assert action_of(POLICIES["fallback"], state, None).endpoint == 0
    state = state_of(weak, endpoint("b"), has_schema=True)
    action = action_of(POLICIES["fallback"], state, None)
    assert (action.endpoint, action.rejected) == (1, {"a": "schema: 3 of 4"})
    state = state_of(weak, endpoint("b", circuit=OPEN), has_schema=True)
    assert action_of(POLICIES["fallback"], state, None).endpoint == 0


def test_without_an_endpoint_a_call_waits_as_long_as_its_patience():
    parts = (endpoint("a", circuit=OPEN), endpoint("b", circuit=OPEN))
    assert action_of(POLICIES["fallback"], state_of(*parts, patience=60), None).seconds == 40
    stop = action_of(POLICIES["fallback"], state_of(*parts, patience=5), None)
    assert isinstance(stop, Stop)
    assert stop.retry_after == 40


def test_a_hedge_goes_to_another_endpoint_after_the_late_percentile():
    parts = (endpoint("a", reply=figures(0.1, 0.7)), endpoint("b", reply=figures(0.2)))
    action = action_of(POLICIES["hedged"], state_of(*parts, hedges=1), None)
    assert (action.hedge, action.hedge_after) == (1, 0.7)
    assert action_of(POLICIES["hedged"], state_of(*parts, hedges=0.9), None).hedge is None
    assert action_of(POLICIES["fallback"], state_of(*parts, hedges=1), None).hedge is None


def test_nobody_is_hedged_while_everything_is_slow():
    slow = figures(1.0, 2.0, usual=0.2)
    parts = (endpoint("a", reply=slow), endpoint("b", reply=slow))
    assert action_of(POLICIES["hedged"], state_of(*parts, hedges=3), None).hedge is None


def test_a_refusal_excludes_the_endpoint_for_this_call():
    assert excludes(RefusedError("policy"))
    assert not excludes(DOWN)
    state = state_of(endpoint("a"), asked=(0,), excluded=frozenset({0}))
    assert action_of(POLICIES["fallback"], state, RefusedError("no")).reason == (
        "every model refused this call"
    )


def test_an_unknown_policy_is_refused_with_a_suggestion():
    with pytest.raises(DefinitionError, match="Did you mean 'hedged'"):
        find_policy("hedge")
