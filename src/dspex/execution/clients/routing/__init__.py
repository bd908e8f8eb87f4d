"""Routes: models made of several models, with circuits, policies and hedged requests.

`decide` is pure: what a route does follows from its policy, the states of its endpoints and the
last error. `Route` keeps the states and carries out the actions.
"""

from dspex.execution.clients.routing.circuit import Circuit, CircuitLimits
from dspex.execution.clients.routing.decision import decide
from dspex.execution.clients.routing.policies import POLICIES, RoutePolicy, find_policy
from dspex.execution.clients.routing.route import Route
from dspex.execution.clients.routing.state import Ask, CallState, EndpointState, Stop, Wait

__all__ = [
    "POLICIES",
    "Ask",
    "CallState",
    "Circuit",
    "CircuitLimits",
    "EndpointState",
    "Route",
    "RoutePolicy",
    "Stop",
    "Wait",
    "decide",
    "find_policy",
]
