"""The hosts, origins and addresses that requests name."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_HOST: Final = re.compile(
    r"(?:([A-Za-z0-9._-]{1,255})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?"
)
_LAST_PORT: Final = 65535
_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def host_name(host: str) -> str | None:
    """Return the lower-case name or address in a `Host` header; None if the header is malformed."""
    parts = _split(host)
    return None if parts is None else parts[0]


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether `origin` and `host` have the same name and port.

    Either may leave out the default port of the scheme.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = _PORTS.get(parts.scheme)
    return port is not None and _split(parts.netloc, port) == _split(host, port) is not None


def _split(host: str, default_port: str = "") -> tuple[str, str] | None:
    """Return the name and the port; None if the text is malformed or the port is out of range."""
    match = _HOST.fullmatch(host)
    if match is None or int(match[3] or 0) > _LAST_PORT:
        return None
    return (match[1] or match[2]).lower(), match[3] or default_port


def client_of(address: str) -> str:
    """Return the key under which a client is counted.

    That is the IPv4 address, or the /64 network of an IPv6 address: one client has a whole network.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
