"""The websocket protocol of uvicorn, with counted connections and bounded send buffers."""

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from dspex.surfaces.api.connections.table import NEVER, Connection
from dspex.surfaces.api.connections.tracked_protocol import TrackedProtocol


class GuardedWebSocket(TrackedProtocol, WebSocketsSansIOProtocol):
    """One websocket; nothing is read from a client that reads nothing, as pings need replies."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count a connection that was an HTTP connection before."""
        super().connection_made(transport)
        self._connection = Connection(self.transport, client=self.client)
        self._table.add(self._connection)

    def pause_writing(self) -> None:
        """Stop reading, and close the connection soon unless its client reads."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Continue reading."""
        super().resume_writing()
        self._connection.deadline = NEVER
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
