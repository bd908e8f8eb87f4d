"""How much a connection may send, how long it may wait, and how many there may be."""

import ipaddress
import resource
from dataclasses import dataclass, replace
from typing import Any, Final

RESERVED: Final = 512
"""Descriptors for everything that is not a connection: databases, workers, files."""
FEWEST: Final = 16
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of one server.

    A head is a request's line and headers; trailers and the extensions of chunks have the same
    limits. `head_s` is for a head to arrive, from its first byte or the start of the connection;
    `body_s` for the body; `idle_s` is how long a connection may be open between two requests;
    `stall_s` how long a client may take nothing of what it is sent; `linger_s` how long a client
    may go on sending a body that was answered early, or take to read the last bytes. Addresses of
    `proxies` have no limit of their own: their connections are those of many clients.
    """

    head_bytes: int = 32 * 1024
    head_count: int = 100
    pipelined: int = 32
    head_s: float = 10.0
    body_s: float = 35.0
    idle_s: float = 60.0
    stall_s: float = 30.0
    linger_s: float = 5.0
    total: int = 1024
    per_address: int = 512
    proxies: tuple[Network, ...] = ()
    tick_s: float = 1.0

    def is_proxy(self, address: str) -> bool:
        """Return whether connections from `address` are those of a proxy."""
        if not self.proxies:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.proxies)


def granted_limits(**values: Any) -> ConnectionLimits:
    """Return limits with these values, and allow this process the descriptors that they need.

    Where the system grants fewer, `total` and `per_address` are smaller.
    """
    limits = ConnectionLimits(**values)
    needed = limits.total + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    granted = needed if hard == resource.RLIM_INFINITY else max(soft, min(needed, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted == needed:
        return limits
    total = max(FEWEST, granted - RESERVED, granted // 2)
    return replace(
        limits,
        total=min(total, limits.total),
        per_address=min(limits.per_address, max(FEWEST, total // 2)),
    )
