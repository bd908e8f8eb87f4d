"""Pause, resume or cancel a search from outside."""

import asyncio
import threading

from dspex.arguments import checks_names


@checks_names
class Control:
    """Pauses, resumes and cancels a search from any thread; running calls finish first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_paused = False
        self._is_cancelled = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._is_cancelled

    @property
    def is_paused(self) -> bool:
        """Whether the search waits."""
        return self._is_paused and not self._is_cancelled

    def pause(self) -> None:
        """Start no further calls."""
        with self._lock:
            self._is_paused = True

    def resume(self) -> None:
        """Continue."""
        with self._lock:
            self._is_paused = False
            self._wake()

    def cancel(self) -> None:
        """End the search; its outcome is the best so far."""
        with self._lock:
            self._is_cancelled = True
            self._wake()

    async def ready(self) -> None:
        """Wait while the search is paused."""
        with self._lock:
            if not self._is_paused or self._is_cancelled:
                return
            event = asyncio.Event()
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()

    def _wake(self) -> None:
        for loop, event in self._waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        self._waiting.clear()
