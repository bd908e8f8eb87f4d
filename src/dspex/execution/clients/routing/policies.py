"""The policies of routes by name: the order in which a call prefers the endpoints."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dspex.arguments import checks_names
from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.clients.routing.state import CallState

_EXPLORE: Final = 0.05  # of the calls measure another endpoint than the fastest


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePolicy:
    """An order of endpoints, as a pure function of the state of a call.

    `reason` says why the first one is asked, `behind` why another one is not. `repeats` is how
    often a call asks the same endpoint again before the next one; `hedges` allows extra requests.
    """

    name: str
    description: str
    rank: Callable[[CallState], Sequence[int]]
    reason: str = "first in order"
    behind: str = "later in order"
    repeats: int = 0
    hedges: bool = False


def _in_order(state: CallState) -> Sequence[int]:
    return range(len(state.endpoints))


def _by_weight(state: CallState) -> Sequence[int]:
    endpoints = state.endpoints
    order = sorted(range(len(endpoints)), key=lambda index: -endpoints[index].weight)
    probe = next((index for index in order if _is_due(state, index)), None)
    if probe is not None:
        return _with_first(order, probe)
    weights = [item.weight if item.circuit.admits(state.now) else 0.0 for item in endpoints]
    rest = state.draw * sum(weights)
    for index, weight in enumerate(weights):
        rest -= weight
        if rest < 0:
            return _with_first(order, index)
    return order


def _by_price(state: CallState) -> Sequence[int]:
    prices = [math.inf if item.price is None else item.price for item in state.endpoints]
    return sorted(range(len(prices)), key=prices.__getitem__)


def _by_latency(state: CallState) -> Sequence[int]:
    medians = [
        (item.first_chunk if state.is_streamed else item.reply).median or 0.0
        for item in state.endpoints
    ]
    order = sorted(range(len(medians)), key=medians.__getitem__)
    probe = next((index for index in order if _is_due(state, index)), None)
    if probe is not None:
        return _with_first(order, probe)
    if state.draw < _EXPLORE:
        return _with_first(order, order[int(state.draw / _EXPLORE * len(order))])
    return order


def _is_due(state: CallState, index: int) -> bool:
    """Return whether the endpoint has an open circuit that may be probed now."""
    circuit = state.endpoints[index].circuit
    return circuit.opened_at is not None and circuit.admits(state.now)


def _with_first(order: Sequence[int], first: int) -> Sequence[int]:
    return [first, *(index for index in order if index != first)]


POLICIES: Final[dict[str, RoutePolicy]] = {
    policy.name: policy
    for policy in (
        RoutePolicy(
            name="primary",
            description="The first model, asked again before the others stand in for it.",
            rank=_in_order,
            repeats=1,
        ),
        RoutePolicy(
            name="fallback",
            description="The models in their order, each when those before it fail.",
            rank=_in_order,
        ),
        RoutePolicy(
            name="weighted",
            description="A random model, in proportion to the weights.",
            rank=_by_weight,
            reason="drawn by weight",
            behind="not drawn",
        ),
        RoutePolicy(
            name="cost",
            description="The cheapest model by public prices; unknown prices come last.",
            rank=_by_price,
            reason="cheapest",
            behind="not cheaper",
        ),
        RoutePolicy(
            name="latency",
            description="The fastest model by its recent median; some calls measure the others.",
            rank=_by_latency,
            reason="fastest, or to be measured",
            behind="slower",
        ),
        RoutePolicy(
            name="hedged",
            description="As fallback; a late reply makes the route ask another model too.",
            rank=_in_order,
            hedges=True,
        ),
    )
}


def find_policy(name: str) -> RoutePolicy:
    """Return the policy with a name.

    Raises:
        DefinitionError: there is none.
    """
    if name not in POLICIES:
        raise DefinitionError(
            f"there is no policy {name!r}.{suggest(name, list(POLICIES))} Policies are: "
            f"{', '.join(POLICIES)}"
        )
    return POLICIES[name]
