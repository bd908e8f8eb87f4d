"""Forwards the events of a program in a worker as the events of `Module.stream`."""

from collections.abc import Mapping
from typing import Any

from dspex.execution.adapters import EmitEvent, ReplyEvents
from dspex.execution.adapters.field_splitter import ChatSplitter, Delta, FieldSplitter, JSONSplitter
from dspex.execution.adapters.xml_scanner import FieldTags, XMLSplitter
from dspex.telemetry import Status


class EventForwarder:
    """The events of one run. Splits replies into fields before the worker has them."""

    def __init__(self, emit: EmitEvent) -> None:
        """Take the listener; a slow one delays the run."""
        self._emit = emit
        self._queue: list[Status] = []
        self._attempts: dict[int, int] = {}

    def queue_status(self, path: str, data: Mapping[str, Any]) -> None:
        """Queue the start or the end of a module, to be emitted before any later event."""
        if data.get("state") == "begun" or data.get("outputs") is not None:
            self._queue.append(Status(path, str(data.get("name", "")), str(data["state"])))

    async def flush(self) -> None:
        """Emit the queued events."""
        queue, self._queue = self._queue, []
        for status in queue:
            await self._emit(status)

    async def start_reply(
        self, path: str, *, module: int, fields: Mapping[str, str]
    ) -> ReplyEvents:
        """Start a reply to the module with this number; `fields` maps wire names to fields."""
        attempt = self._attempts[module] = self._attempts.get(module, 0) + 1
        if attempt > 1:
            await self._emit(Status(path, "Predict", "again"))
        return ReplyEvents(self._emit, _AnySplitter(dict(fields)), path=path, attempt=attempt)


class _AnySplitter:
    """Reads chat, JSON and XML replies; the first character of a reply shows its format."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._text = ""
        self._splitter: FieldSplitter | None = None

    def feed(self, text: str) -> list[Delta]:
        """See `FieldSplitter.feed`."""
        if self._splitter is not None:
            return self._splitter.feed(text)
        self._text += text
        start = self._text.lstrip()
        if not start:
            return []
        self._splitter = self._splitter_for(start[0])
        return self._splitter.feed(self._text)

    def _splitter_for(self, character: str) -> FieldSplitter:
        if character == "<":
            return XMLSplitter(FieldTags(dict.fromkeys(self._names, False)), self._names)
        return JSONSplitter(self._names) if character in "{`" else ChatSplitter(self._names)

    def partial(self) -> dict[str, Any] | None:
        """See `FieldSplitter.partial`."""
        return None if self._splitter is None else self._splitter.partial()

    def end(self) -> list[Delta]:
        """See `FieldSplitter.end`."""
        return [] if self._splitter is None else self._splitter.end()
