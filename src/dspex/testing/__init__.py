"""Public fakes and contract suites for tests; production code never imports this room."""

from dspex.testing.agents import AgentTurn, by_role, simulated_agents, tool_calls
from dspex.testing.clock import FakeClock
from dspex.testing.loopback import LoopbackServer, http_answer
from dspex.testing.scripted import Reply, ScriptedModel
from dspex.testing.simulated import SimulatedModel
from dspex.testing.surfaces import Bottleneck, ResponseSurface, Surface

__all__ = [
    "AgentTurn",
    "Bottleneck",
    "FakeClock",
    "LoopbackServer",
    "Reply",
    "ResponseSurface",
    "ScriptedModel",
    "SimulatedModel",
    "Surface",
    "by_role",
    "http_answer",
    "simulated_agents",
    "tool_calls",
]
