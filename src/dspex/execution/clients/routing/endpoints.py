"""The state of the endpoints of a route, changed by the results of calls."""

import threading
from collections.abc import Sequence

import msgspec

from dspex.errors import ContextTooLongError, ModelError, RateLimitedError, RefusedError
from dspex.execution.clients.identity import LOCAL, ModelIdentity
from dspex.execution.clients.language_model import CUT, Request, Response
from dspex.execution.clients.routing.circuit import Circuit, CircuitLimits
from dspex.execution.clients.routing.latency import Latency
from dspex.execution.clients.routing.state import Ask, EndpointState, FailureKind

_HEDGES = 3.0  # the most extra requests that a route may save up


class Endpoints:
    """The endpoints of one route. Safe for threads: `lock` is held for each change.

    `states` are what `decide` reads; a change replaces one of them.
    """

    def __init__(
        self,
        identities: Sequence[ModelIdentity],
        *,
        weights: Sequence[float],
        limits: CircuitLimits,
        percentile: float,
        hedge_share: float,
    ) -> None:
        """Take what the endpoints are; all of them begin without a history."""
        self.lock = threading.Lock()
        self.states = tuple(
            EndpointState(label=identity.label, weight=weight, price=_price(identity))
            for identity, weight in zip(identities, weights, strict=True)
        )
        self.hedges = 0.0
        self._limits = limits
        self._hedge_share = hedge_share
        self._reply = [Latency(percentile) for _ in identities]
        self._first_chunk = [Latency(percentile) for _ in identities]

    def begin(self, ask: Ask, now: float) -> None:
        """Count the attempt that `decide` chose; call it in the same hold of the lock."""
        self.hedges = min(_HEDGES, self.hedges + self._hedge_share)
        if ask.is_probe:
            circuit = self.states[ask.endpoint].circuit
            self._replace(ask.endpoint, circuit=circuit.after_probe(self._limits, now))

    def take_hedge(self) -> bool:
        """Count an extra request; return False if there are too many."""
        with self.lock:
            if self.hedges < 1:
                return False
            self.hedges -= 1
            return True

    def settle(
        self,
        index: int,
        request: Request,
        response: Response,
        *,
        asked_at: float,
        now: float,
        is_streamed: bool,
    ) -> bool:
        """Count an answer; return whether it has closed a circuit.

        The seconds until the first chunk of a streamed one are counted by `time`.
        """
        with self.lock:
            state = self.states[index]
            circuit = state.circuit.after_success(self._limits, now, asked_at)
            changes: dict[str, object] = {"circuit": circuit}
            if not is_streamed and self._reply[index].add(now - asked_at, now):
                changes["reply"] = self._reply[index].figures
            failures = _failures(request, response)
            if failures or state.kinds:
                changes["kinds"] = self._kinds(state, failures, request, asked_at=asked_at, now=now)
            self._replace(index, **changes)
            return state.circuit.opened_at is not None and circuit.opened_at is None

    def fail(self, index: int, error: ModelError, now: float) -> None:
        """Count an error."""
        if isinstance(error, ContextTooLongError):
            return
        with self.lock:
            state = self.states[index]
            if isinstance(error, RefusedError):
                circuit = state.kinds.get("refusal", Circuit())
                circuit = circuit.after_failure(self._limits, now, error.message[:200])
                self._replace(index, kinds={**state.kinds, "refusal": circuit})
            elif isinstance(error, RateLimitedError):
                circuit = state.circuit.after_rate_limit(self._limits, now, error.retry_after)
                self._replace(index, circuit=circuit)
            else:
                circuit = state.circuit.after_failure(self._limits, now, error.message[:200])
                self._replace(index, circuit=circuit)

    def time(self, index: int, seconds: float, now: float, *, is_streamed: bool) -> None:
        """Count the seconds of a reply or until its first chunk; a cancelled call counts too."""
        with self.lock:
            latencies = self._first_chunk if is_streamed else self._reply
            if latencies[index].add(seconds, now):
                figures = latencies[index].figures
                if is_streamed:
                    self._replace(index, first_chunk=figures)
                else:
                    self._replace(index, reply=figures)

    def _kinds(
        self,
        state: EndpointState,
        failures: dict[FailureKind, str],
        request: Request,
        *,
        asked_at: float,
        now: float,
    ) -> dict[FailureKind, Circuit]:
        kinds, limits = dict(state.kinds), self._limits
        for kind, reason in failures.items():
            kinds[kind] = kinds.get(kind, Circuit()).after_failure(limits, now, reason)
        for kind in kinds.keys() - failures.keys():
            if kind != "schema" or request.response_schema is not None:
                kinds[kind] = kinds[kind].after_success(limits, now, asked_at)
        return kinds

    def _replace(self, index: int, **changes: object) -> None:
        state = msgspec.structs.replace(self.states[index], **changes)
        self.states = (*self.states[:index], state, *self.states[index + 1 :])


def _failures(request: Request, response: Response) -> dict[FailureKind, str]:
    """Return what is wrong with a reply; a limit that the request set cuts it rightly."""
    if request.max_tokens is None and response.finish_reason in CUT:
        return {"cut reply": f"finish reason {response.finish_reason!r}"}
    schema = request.response_schema
    if schema is None or response.tool_calls:
        return {}
    try:
        reply = msgspec.json.decode(response.text)
    except msgspec.DecodeError as error:
        return {"schema": str(error)}
    required = schema.get("required", ())
    if isinstance(reply, dict) and all(name in reply for name in required):
        return {}
    return {"schema": f"the reply lacks some of {', '.join(required)}"}


def _price(identity: ModelIdentity) -> float | None:
    """Return the dollars for a million tokens, a quarter of them in replies."""
    if identity.provider == LOCAL:
        return 0.0
    return None if identity.price is None else identity.price.cost(750, 250) * 1000
