"""The HTTP server, whose protocols limit connections."""

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
"""The longest websocket message that is read; the endpoint rejects one of this size itself."""
_NOISE: Final = frozenset({"Invalid HTTP request received.", "Unsupported upgrade request."})


def make_server(
    app: ASGIApp,
    limits: ConnectionLimits,
    *,
    graceful_s: int | None = None,
    lifespan: bool = True,
) -> uvicorn.Server:
    """Return a server for `app`.

    It logs nothing about requests that are not HTTP, with which anybody could fill the log. The
    address of a client is that of its connection; one of the `proxies` may give another.
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
