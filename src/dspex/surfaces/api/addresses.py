"""Hosts, origins and addresses as requests name them."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_HOST: Final = re.compile(
    r"(?:([A-Za-z0-9._-]{1,255})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?"
)
_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def host_name(host: str) -> str | None:
    """Return the name or address in a `Host` header, in lower case; None where the header is malformed."""
    match = _HOST.fullmatch(host)
    return None if match is None else (match[1] or match[2]).lower()


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether a page of `origin` has the name and port of `host`; the port of its scheme may be left out."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = _PORTS.get(parts.scheme)
    return port is not None and _whole(parts.netloc, port) == _whole(host, port) is not None


def _whole(host: str, port: str) -> tuple[str, str] | None:
    match = _HOST.fullmatch(host)
    return None if match is None else ((match[1] or match[2]).lower(), match[3] or port)


def client_of(address: str) -> str:
    """Return what stands for one client: an IPv4 address, or the network of 64 bits that one has of IPv6."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
