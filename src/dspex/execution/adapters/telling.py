"""What the pieces of one reply make certain, as events."""

from collections.abc import Awaitable, Callable
from typing import Any

from dspex.execution.adapters.splitting import Splitter
from dspex.telemetry import FieldDelta, Partial, StreamEvent

Tell = Callable[[StreamEvent], Awaitable[None]]


class ReplyTelling:
    """One reply that is coming."""

    __slots__ = ("_attempt", "_last", "_path", "_splitter", "_tell")

    def __init__(self, tell: Tell, splitter: Splitter, *, path: str, attempt: int) -> None:
        """Take who hears the events, what cuts the reply into fields, and where it belongs."""
        self._tell = tell
        self._splitter = splitter
        self._path = path
        self._attempt = attempt
        self._last: dict[str, Any] | None = None

    async def take(self, text: str) -> None:
        """Tell what one piece makes certain."""
        await self._told(self._splitter.feed(text))

    async def end(self) -> None:
        """Tell what was held back."""
        await self._told(self._splitter.end())

    async def _told(self, deltas: list[tuple[str, str]]) -> None:
        for field, text in deltas:
            await self._tell(FieldDelta(self._path, field, text, self._attempt))
        found = self._splitter.partial()
        if found is not None and found != self._last:
            self._last = found
            await self._tell(Partial(self._path, found, self._attempt))
