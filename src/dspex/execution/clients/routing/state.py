"""What a route decides from, and the actions that it can decide on. Plain values."""

from typing import Literal

import msgspec

from dspex.execution.clients.routing.circuit import Circuit
from dspex.execution.clients.routing.latency import LatencyFigures

FailureKind = Literal["refusal", "cut reply", "schema"]
_NO_FIGURES = LatencyFigures()


class EndpointState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One model of a route. `price` is in dollars for a million tokens, None if it is unknown.

    `circuit` has the failures of the server. `kinds` has further circuits for refusals, cut replies
    and missed schemas: an endpoint with an open one is asked after all others. The figures are of
    whole replies and of the first chunks of streams.
    """

    label: str
    weight: float = 1.0
    price: float | None = None
    circuit: Circuit = Circuit()
    kinds: dict[FailureKind, Circuit] = {}
    reply: LatencyFigures = _NO_FIGURES
    first_chunk: LatencyFigures = _NO_FIGURES


class CallState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One call at one moment: the endpoints, and what the call has already tried.

    `asked` has the index of the endpoint of each attempt; those in `excluded` are not asked again.
    `attempts` and `patience` (seconds) are what is left. `draw` is a random number from 0 to 1.
    `has_rested` says that the delay before a repetition is over. `hedges` is how many extra
    requests the route may send.
    """

    now: float
    endpoints: tuple[EndpointState, ...]
    attempts: int
    patience: float = 0.0
    draw: float = 0.5
    asked: tuple[int, ...] = ()
    excluded: frozenset[int] = frozenset()
    has_rested: bool = False
    is_streamed: bool = False
    has_chunks: bool = False
    has_schema: bool = False
    hedges: float = 0.0


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Ask an endpoint after `delay` seconds. `rejected` has the reason for each other label.

    With `hedge`, another endpoint is asked too if there is no reply `hedge_after` seconds later.
    """

    endpoint: int
    reason: str
    rejected: dict[str, str]
    delay: float = 0.0
    is_probe: bool = False
    hedge: int | None = None
    hedge_after: float = 0.0


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Ask nobody now; decide again after `seconds`, or earlier if a circuit closes."""

    seconds: float
    rejected: dict[str, str]


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Fail the call; `retry_after` are the seconds until an endpoint may be asked again."""

    reason: str
    rejected: dict[str, str]
    retry_after: float | None = None


Action = Ask | Wait | Stop
