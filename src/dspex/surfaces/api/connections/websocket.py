"""The websocket protocol of uvicorn, counted among the connections, and bounded in what it holds for a slow reader."""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from dspex.surfaces.api.connections.table import NEVER, Connection, ConnectionTable


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """One websocket. Where its client takes nothing, nothing more is read from it: pings are answered, too."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        table: ConnectionTable,
    ) -> None:
        """Take what uvicorn gives, and the table of all connections."""
        super().__init__(config, server_state, app_state, _loop)
        self._table = table
        self._connection: Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count a connection that was one of HTTP before."""
        super().connection_made(transport)
        self._connection = Connection(
            self.transport, address=self.client[0] if self.client else "?"
        )
        self._table.add(self._connection)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._table.discard(self._connection)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Read nothing more, and give the client only so long."""
        super().pause_writing()
        self.transport.pause_reading()
        connection = self._connection
        connection.unsent = NEVER
        connection.deadline = self._table.now + self._table.limits.stall_s

    def resume_writing(self) -> None:
        """Read on."""
        super().resume_writing()
        self._connection.deadline = NEVER
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
