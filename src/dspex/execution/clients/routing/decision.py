"""What a route does next: a pure function of its policy, its endpoints and the last error."""

from dspex.errors import ContextTooLongError, ModelError, RefusedError
from dspex.execution.clients.routing.policies import RoutePolicy
from dspex.execution.clients.routing.state import Action, Ask, CallState, EndpointState, Stop, Wait

_BACKOFF, _LONGEST = 0.5, 8.0  # seconds before an endpoint is asked again by the same call


def decide(policy: RoutePolicy, state: CallState, error: ModelError | None) -> Action:
    """Return the next action of a call.

    `error` is that of the last attempt. It has no clock and no randomness: both are in `state`.
    """
    if error is not None and state.has_chunks:
        return Stop("the reply had begun", {})
    if state.attempts <= 0:
        return Stop("no attempts are left", {})
    endpoints, rejected = state.endpoints, dict[str, str]()
    best, best_key = None, (0, False, 0)
    for place, index in enumerate(policy.rank(state)):
        endpoint = endpoints[index]
        is_closed = endpoint.circuit.opened_at is None and not state.excluded
        reason = "" if is_closed else _obstacle(state, index)
        weakness = _weakness(state, endpoint) if endpoint.kinds else ""
        times = state.asked.count(index)
        key = (max(0, times - policy.repeats) if index == 0 else times, bool(weakness), place)
        if not reason and (best is None or key < best_key):
            best, best_key = index, key
        rejected[endpoint.label] = (
            reason or ("failed in this call" if times else "") or weakness or policy.behind
        )
    if best is None:
        return _wait(state, rejected)
    if best_key[0] and (seconds := _reserved(state)) is not None:
        return Wait(seconds, rejected)
    del rejected[endpoints[best].label]
    return _ask(policy, state, best, rejected=rejected)


def _reserved(state: CallState) -> float | None:
    """Return how long to wait for endpoints that need the last attempts, None if none does."""
    seconds = [
        item.circuit.probe_at - state.now
        for index, item in enumerate(state.endpoints)
        if index not in state.asked and item.circuit.probe_at - state.now <= state.patience
    ]
    return min(seconds) if 0 < state.attempts <= len(seconds) else None


def excludes(error: ModelError) -> bool:
    """Return whether the same endpoint would answer the same request with the same error."""
    return isinstance(error, RefusedError | ContextTooLongError)


def _obstacle(state: CallState, index: int) -> str:
    """Return why the endpoint cannot be asked now, an empty text if it can."""
    circuit = state.endpoints[index].circuit
    if index in state.excluded:
        return "refused this call"
    if circuit.opened_at is None or state.now >= circuit.probe_at:
        return ""
    return f"open for {circuit.probe_at - state.now:.1f} s more: {circuit.reason}"


def _weakness(state: CallState, endpoint: EndpointState) -> str:
    """Return why the endpoint is asked after the others, an empty text if it is not."""
    for kind, circuit in endpoint.kinds.items():
        if not circuit.admits(state.now) and (kind != "schema" or state.has_schema):
            return f"{kind}: {circuit.reason}"
    return ""


def _ask(policy: RoutePolicy, state: CallState, best: int, *, rejected: dict[str, str]) -> Ask:
    circuit, times = state.endpoints[best].circuit, state.asked.count(best)
    if circuit.opened_at is not None:
        return Ask(best, "probe of an open circuit", rejected, is_probe=True)
    if times:
        longest = 0.0 if state.has_rested else min(_LONGEST, _BACKOFF * 2 ** (times - 1))
        delay = state.draw * longest
        return Ask(best, "asked again", rejected, delay)
    reason = "the others failed" if state.asked else policy.reason
    if not policy.hedges or state.attempts < 2 or state.hedges < 1:
        return Ask(best, reason, rejected)
    return _with_hedge(state, Ask(best, reason, rejected))


def _with_hedge(state: CallState, ask: Ask) -> Ask:
    """Add an extra request, by preference to another endpoint, unless all of them are slow."""
    figures = [item.first_chunk if state.is_streamed else item.reply for item in state.endpoints]
    late = figures[ask.endpoint].late
    targets = [
        index
        for index in range(len(figures))
        if state.endpoints[index].circuit.opened_at is None
        and index not in state.excluded
        and not figures[index].is_slow
    ]
    if late is None or not targets:
        return ask
    hedge = next((index for index in targets if index != ask.endpoint), ask.endpoint)
    return Ask(ask.endpoint, ask.reason, ask.rejected, hedge=hedge, hedge_after=late)


def _wait(state: CallState, rejected: dict[str, str]) -> Wait | Stop:
    circuits = [
        item.circuit for index, item in enumerate(state.endpoints) if index not in state.excluded
    ]
    if not circuits:
        return Stop("every model refused this call", rejected)
    seconds = min(circuit.probe_at for circuit in circuits) - state.now
    if seconds > state.patience:
        return Stop("no model may be asked in time", rejected, seconds)
    return Wait(seconds, rejected)
