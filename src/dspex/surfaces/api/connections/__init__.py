"""Limits on TCP connections: their number, and the bytes, headers and seconds of each.

The HTTP server parses what anybody sends, before a key is checked; this room bounds that. `dspex
serve` imports it.
"""

from dspex.surfaces.api.connections.limits import ConnectionLimits, granted_limits
from dspex.surfaces.api.connections.server import make_server
from dspex.surfaces.api.connections.table import ConnectionTable

__all__ = ["ConnectionLimits", "ConnectionTable", "granted_limits", "make_server"]
