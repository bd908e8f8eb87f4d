"""What the HTTP and the websocket protocol share: both count their connections in one table."""

import asyncio
from typing import Any

from dspex.surfaces.api.connections.table import NEVER, Connection, ConnectionTable


class TrackedProtocol(asyncio.Protocol):
    """A mixin for protocols of uvicorn that keeps their connection in a table.

    A subclass creates `_connection` in `connection_made`.
    """

    _connection: Connection

    def __init__(self, *, table: ConnectionTable, **options: Any) -> None:
        """Take the table of all connections, and the options of uvicorn."""
        super().__init__(**options)
        self._table = table
        self._limits = table.limits

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the table."""
        self._table.discard(self._connection)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Close the connection soon unless its client reads."""
        super().pause_writing()
        self._connection.unsent = NEVER
        self._close_after(self._limits.stall_s)

    def _close_after(self, seconds: float) -> None:
        """Close the connection after a time, unless something happens before."""
        self._connection.deadline = self._table.now + seconds
