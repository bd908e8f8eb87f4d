"""Public fakes and contract suites, for tests of dspex and of programs made with it. Production never imports it."""

from dspex.testing.clock import FakeClock
from dspex.testing.loopback import LoopbackServer, http_answer
from dspex.testing.scripted import Reply, ScriptedModel

__all__ = ["FakeClock", "LoopbackServer", "Reply", "ScriptedModel", "http_answer"]
