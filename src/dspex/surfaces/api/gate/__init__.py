"""What every request passes before anything else: hosts, sizes, keys, rates, time; and what is counted of it."""

from dspex.surfaces.api.gate.configuration import ServerConfig
from dspex.surfaces.api.gate.gate import Gate, actor_of, holder_of_text
from dspex.surfaces.api.gate.metrics import Metrics
from dspex.surfaces.api.gate.rates import Rates

__all__ = ["Gate", "Metrics", "Rates", "ServerConfig", "actor_of", "holder_of_text"]
