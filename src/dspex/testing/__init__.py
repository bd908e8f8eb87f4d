"""Public fakes and contract suites for tests; production code never imports this room."""

from dspex.testing.clock import FakeClock
from dspex.testing.loopback import LoopbackServer, http_answer
from dspex.testing.scripted import Reply, ScriptedModel
from dspex.testing.simulated import SimulatedModel
from dspex.testing.surfaces import Bottleneck, ResponseSurface, Surface

__all__ = [
    "Bottleneck",
    "FakeClock",
    "LoopbackServer",
    "Reply",
    "ResponseSurface",
    "ScriptedModel",
    "SimulatedModel",
    "Surface",
    "http_answer",
]
