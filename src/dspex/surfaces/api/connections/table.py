"""All connections that are open, and the clock that ends those that wait too long."""

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

    `deadline` is when it ends unless something happens; `waits_since` is None inside a request, and
    otherwise the greater the shorter it waits. Moments are those of the table's `now`, as coarse as
    its tick: a request costs no look at a clock.
    """

    __slots__ = ("address", "client", "deadline", "has_ended", "transport", "unsent", "waits_since")

    def __init__(self, transport: asyncio.Transport, *, address: str) -> None:
        """Take what it is carried by."""
        self.transport = transport
        self.address = address
        self.client = client_of(address)
        self.deadline = NEVER
        self.waits_since: int | None = None
        self.unsent: float = NEVER
        self.has_ended = False

    def expire(self, now: float, limits: ConnectionLimits) -> None:
        """End it; a client that is still reading what it was sent gets more time for that, others get none."""
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
        """Begin with none."""
        self.limits = limits
        self.now = 0.0
        self.turn: Callable[[], int] = count().__next__
        """Gives a greater number each time: the order in which connections began to wait."""
        self._connections: set[Connection] = set()
        self._clients: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; return False where there are too many that do something.

        Where the table is full, the connection that has waited longest without a request makes
        room: those that only wait lock nobody out.
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
        """Count a connection that was admitted as another one before."""
        self._connections.add(connection)
        self._clients[connection.client] += 1
        if self._timer is None:
            self._tick()

    def discard(self, connection: Connection) -> None:
        """Forget one that has ended."""
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
        """End what is late, and look again soon while there are connections."""
        loop = asyncio.get_running_loop()
        self.now = now = loop.time()
        for connection in tuple(self._connections):
            if connection.deadline <= now:
                connection.expire(now, self.limits)
            elif connection.deadline == NEVER and connection.transport.is_closing():
                connection.has_ended, connection.deadline = True, now + self.limits.stall_s
        self._timer = loop.call_later(self.limits.tick_s, self._tick) if self._connections else None
