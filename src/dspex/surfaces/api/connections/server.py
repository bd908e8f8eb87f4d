"""The HTTP server, with the limits of connections around its protocols."""

import logging
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from dspex.surfaces.api.connections.http import GuardedHttp
from dspex.surfaces.api.connections.limits import ConnectionLimits
from dspex.surfaces.api.connections.table import ConnectionTable
from dspex.surfaces.api.connections.websocket import GuardedWebSocket

MESSAGE_BYTES: Final = 1024 * 1024 + 1
"""The longest message of a websocket that is read: one byte more than the endpoint takes, so that it says so."""
_NOISE: Final = frozenset({"Invalid HTTP request received.", "Unsupported upgrade request."})


def make_server(
    app: ASGIApp,
    limits: ConnectionLimits,
    *,
    graceful_s: int | None = None,
    lifespan: bool = True,
) -> uvicorn.Server:
    """Return a server for `app`. Of what a client sends that is not HTTP it logs nothing: anybody could fill the log.

    Addresses of clients are those of their connections, or, behind one of the `proxies`, what that
    proxy says.
    """
    table = ConnectionTable(limits)
    options: dict[str, Any] = {
        "http": partial(GuardedHttp, table=table),
        "ws": partial(GuardedWebSocket, table=table),
        "ws_max_size": MESSAGE_BYTES,
        "timeout_keep_alive": limits.idle_s,
        "timeout_graceful_shutdown": graceful_s,
        "proxy_headers": bool(limits.proxies),
        "forwarded_allow_ips": [str(network) for network in limits.proxies],
        "lifespan": "on" if lifespan else "off",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
    }
    server = uvicorn.Server(uvicorn.Config(app, **options))
    logging.getLogger("uvicorn.error").addFilter(_is_signal)
    return server


def _is_signal(record: logging.LogRecord) -> bool:
    return record.msg not in _NOISE
