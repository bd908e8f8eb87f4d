"""The table of all open connections, and the timer that closes those past their deadline."""

import asyncio
import math
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Final

from dspex.surfaces.api.addresses import client_of
from dspex.surfaces.api.connections.limits import ConnectionLimits

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER: Final = math.inf


class Connection:
    """One open connection.

    It is closed at its `deadline` unless something happens before. `waits_since` is None during a
    request, and otherwise the turn at which it began to wait. Times are the `now` of the table, as
    coarse as its tick, so that a request does not read a clock.
    """

    __slots__ = ("address", "client", "deadline", "has_ended", "transport", "unsent", "waits_since")

    def __init__(self, transport: asyncio.Transport, *, client: tuple[str, int] | None) -> None:
        """Take the transport, and the address and port of the client."""
        self.transport = transport
        self.address = "?" if client is None else client[0]
        self.client = client_of(self.address)
        self.deadline = NEVER
        self.waits_since: int | None = None
        self.unsent: float = NEVER
        self.has_ended = False

    def expire(self, now: float, limits: ConnectionLimits) -> None:
        """Close the connection, unless its client has read something since the last check."""
        transport = self.transport
        size = transport.get_write_buffer_size()
        if 0 < size < self.unsent:
            self.unsent, self.deadline = size, now + limits.stall_s
        elif self.has_ended or size:
            transport.abort()
        else:
            self.has_ended, self.deadline = True, now + limits.linger_s
            transport.close()


class ConnectionTable:
    """The connections of one server. Owned by its event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        """Start without connections."""
        self.limits = limits
        self.now = 0.0
        self.next_turn: Callable[[], int] = count().__next__
        """Returns a greater number each time: the order in which connections began to wait."""
        self._connections: set[Connection] = set()
        self._clients: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; return False if there are too many with a request.

        In a full table, the connection that has waited longest without a request is closed, so that
        waiting connections do not lock out others.
        """
        limits, client = self.limits, connection.client
        is_crowded = self._clients[client] >= limits.per_address and not limits.is_proxy(
            connection.address
        )
        if is_crowded and not self._evict(client):
            return False
        if len(self._connections) >= limits.total and not self._evict(None):
            return False
        self.add(connection)
        return True

    def add(self, connection: Connection) -> None:
        """Count a connection that was admitted before, under another protocol."""
        self._connections.add(connection)
        self._clients[connection.client] += 1
        if self._timer is None:
            self._tick()

    def discard(self, connection: Connection) -> None:
        """Remove a connection that has ended."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._clients[connection.client] -= 1
            if not self._clients[connection.client]:
                del self._clients[connection.client]

    def _evict(self, client: str | None) -> bool:
        waiting = {
            connection.waits_since: connection
            for connection in self._connections
            if connection.waits_since is not None and client in {None, connection.client}
        }
        if not waiting:
            return False
        oldest = waiting[min(waiting)]
        self.discard(oldest)
        oldest.transport.abort()
        return True

    def _tick(self) -> None:
        """Close the connections past their deadline; run again while there are connections."""
        loop = asyncio.get_running_loop()
        self.now = now = loop.time()
        for connection in tuple(self._connections):
            if connection.deadline <= now:
                connection.expire(now, self.limits)
            elif connection.deadline == NEVER and connection.transport.is_closing():
                connection.has_ended, connection.deadline = True, now + self.limits.stall_s
        self._timer = loop.call_later(self.limits.tick_s, self._tick) if self._connections else None
