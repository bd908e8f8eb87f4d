"""What every request passes before anything else: hosts, sizes, keys, rates, time; and what is counted of it."""

from dspex.surfaces.api.gateway.authenticator import (
    Authenticator,
    CallerSession,
    Unauthenticated,
    denial_body,
)
from dspex.surfaces.api.gateway.configuration import ServerConfig
from dspex.surfaces.api.gateway.metrics import ServerMetrics
from dspex.surfaces.api.gateway.middleware import BROWSER_HEADERS, Gateway, actor_of, caller_of
from dspex.surfaces.api.gateway.rate_limits import RateLimited, RateLimiter

__all__ = [
    "BROWSER_HEADERS",
    "Authenticator",
    "CallerSession",
    "Gateway",
    "RateLimited",
    "RateLimiter",
    "ServerConfig",
    "ServerMetrics",
    "Unauthenticated",
    "actor_of",
    "caller_of",
    "denial_body",
]
