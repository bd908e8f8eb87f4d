"""What every request passes before anything else: hosts, sizes, keys, rates, time; and what is counted of it."""

from dspex.surfaces.api.gate.configuration import ServerConfig
from dspex.surfaces.api.gate.door import Caller, Denied, Door, denial_body
from dspex.surfaces.api.gate.gate import BROWSER_HEADERS, Gate, actor_of, caller_of
from dspex.surfaces.api.gate.metrics import Metrics
from dspex.surfaces.api.gate.rates import Rates, Refused

__all__ = [
    "BROWSER_HEADERS",
    "Caller",
    "Denied",
    "Door",
    "Gate",
    "Metrics",
    "Rates",
    "Refused",
    "ServerConfig",
    "actor_of",
    "caller_of",
    "denial_body",
]
