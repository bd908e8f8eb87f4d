"""The limits on connections: their number, and the bytes and seconds of each."""

import ipaddress
import resource
from dataclasses import dataclass, replace
from typing import Any, Final

RESERVED: Final = 512
"""File descriptors for everything else: databases, workers, files."""
MIN_CONNECTIONS: Final = 16
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of one server.

    A head is the request line with the headers; trailers and chunk extensions have the same limits.
    The times: `head_s` until a head has arrived, from its first byte or the start of the
    connection; `body_s` for the body; `idle_s` between two requests; `stall_s` while the client
    reads nothing of a response; `linger_s` for the rest of a body after an early response, and for
    reading the last bytes. The limit per address does not apply to `proxies`, which carry the
    connections of many clients.
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
        """Return whether `address` is a proxy."""
        if not self.proxies:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.proxies)


def granted_limits(**values: Any) -> ConnectionLimits:
    """Return limits with these values, and raise this process's limit of file descriptors.

    If the system grants too few descriptors, `total` and `per_address` are smaller.
    """
    limits = ConnectionLimits(**values)
    descriptors = limits.total + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= descriptors:
        return limits
    granted = descriptors if hard == resource.RLIM_INFINITY else max(soft, min(descriptors, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted == descriptors:
        return limits
    total = max(MIN_CONNECTIONS, granted - RESERVED, granted // 2)
    return replace(
        limits,
        total=min(total, limits.total),
        per_address=min(limits.per_address, max(MIN_CONNECTIONS, total // 2)),
    )
