"""Hands out the tickets of one channel: the thread of DBOS for a queue, without its polls.

DBOS polls each of its queues for as long as it runs. The rows of jobs tell a worker in which
channels tickets may wait, so an idle one asks DBOS for nothing. The function of the thread is a
private one, which is one reason to pin DBOS to a minor version.
"""

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbos import DBOS

_PATIENCE = 10.0  # seconds; a database that is away must not prevent the end


class TicketDispatcher:
    """Hands out the tickets of one queue of DBOS at each `look`. One thread owns it."""

    def __init__(self, instance: "DBOS", queue: Any) -> None:
        """Take the launched DBOS and one of its queues."""
        self._instance = instance
        self._queue = queue
        self._signal = _LookSignal()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Look soon, without waiting for it; several calls may become one look."""
        self._signal.look()
        if self._thread is None or not self._thread.is_alive():
            from dbos._queue import queue_worker_thread

            self._thread = threading.Thread(
                target=queue_worker_thread,
                args=(self._signal, self._instance, self._queue),
                name=f"tickets of {self._queue.name}",
                daemon=True,
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread, after the look that it is at."""
        self._signal.stop()
        if self._thread is not None:
            self._thread.join(_PATIENCE)


class _LookSignal:
    """What DBOS takes for the event that ends its thread: here a wait ends with the next look."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._is_over = False

    def look(self) -> None:
        self._event.set()

    def stop(self) -> None:
        self._is_over = True
        self._event.set()

    def is_set(self) -> bool:
        return self._is_over

    def wait(self, timeout: float | None = None) -> bool:  # of a poll
        self._event.wait()
        self._event.clear()
        return self._is_over
