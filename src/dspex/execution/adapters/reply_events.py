"""Convert the chunks of a streamed reply into events."""

from collections.abc import Awaitable, Callable
from typing import Any

from dspex.execution.adapters.field_splitter import FieldSplitter
from dspex.telemetry import FieldDelta, Partial, StreamEvent

EmitEvent = Callable[[StreamEvent], Awaitable[None]]


class ReplyEvents:
    """Emits the events of one streamed reply."""

    __slots__ = ("_attempt", "_emit", "_last", "_path", "_splitter")

    def __init__(
        self, emit: EmitEvent, splitter: FieldSplitter, *, path: str, attempt: int
    ) -> None:
        """Take the listener, the splitter of the reply, and the module path for the events."""
        self._emit = emit
        self._splitter = splitter
        self._path = path
        self._attempt = attempt
        self._last: dict[str, Any] | None = None

    async def take(self, text: str) -> None:
        """Emit what one chunk adds."""
        await self._emit_deltas(self._splitter.feed(text))

    async def end(self) -> None:
        """Emit the rest of the reply."""
        await self._emit_deltas(self._splitter.end())

    async def _emit_deltas(self, deltas: list[tuple[str, str]]) -> None:
        for field, text in deltas:
            await self._emit(FieldDelta(self._path, field, text, self._attempt))
        outputs = self._splitter.partial()
        if outputs is not None and outputs != self._last:
            self._last = outputs
            await self._emit(Partial(self._path, outputs, self._attempt))
