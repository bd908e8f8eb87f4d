"""What one TCP connection may cost before and between requests: bytes, headers, seconds, and how many there are.

The HTTP server parses what anybody sends, before a key is looked at; this room bounds it. `dspex
serve` imports it.
"""

from dspex.surfaces.api.connections.limits import ConnectionLimits, granted_limits
from dspex.surfaces.api.connections.server import make_server
from dspex.surfaces.api.connections.table import ConnectionTable

__all__ = ["ConnectionLimits", "ConnectionTable", "granted_limits", "make_server"]
