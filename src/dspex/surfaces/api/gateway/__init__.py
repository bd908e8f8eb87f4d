"""What every request passes first: checks of host, size, key and rate, limits, and counters."""

from dspex.surfaces.api.gateway.authenticator import (
    Authenticator,
    CallerSession,
    Unauthenticated,
    denial_body,
)
from dspex.surfaces.api.gateway.configuration import ServerConfig
from dspex.surfaces.api.gateway.metrics import ServerMetrics
from dspex.surfaces.api.gateway.middleware import BROWSER_HEADERS, Gateway, actor_of, session_of
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
    "denial_body",
    "session_of",
]
