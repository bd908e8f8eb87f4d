"""The configuration of request checks."""

from dataclasses import dataclass

from dspex.surfaces.api.addresses import LOOPBACK, host_name, is_address


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How requests are checked.

    Without `needs_key` every caller is the local actor; use that only on loopback. A request may
    name a host on loopback or one of `hosts`, and with `allows_addresses` any IP address (a page of
    another site can make a browser send that site's name, but never an address). The rows that one
    request reads have at most about `page_bytes`. With `logs_requests` every request is a line of
    the logger `dspex.requests`.
    """

    needs_key: bool = False
    hosts: frozenset[str] = frozenset()
    allows_addresses: bool = False
    timeout_s: float = 300.0
    body_bytes: int = 4 * 1024 * 1024
    page_bytes: int = 16 * 1024 * 1024
    requests_per_minute: int = 6000
    concurrency: int = 128
    logs_requests: bool = False

    def serves(self, host: str) -> bool:
        """Return whether a request may name `host` (a name or address, with or without a port)."""
        name = host_name(host)
        if name is None:
            return False
        return (
            name in LOOPBACK or name in self.hosts or (self.allows_addresses and is_address(name))
        )
