"""What a program in a worker does, as the events of `Module.stream`."""

from collections.abc import Mapping
from typing import Any

from dspex.execution.adapters import EmitEvent, ReplyEvents
from dspex.execution.adapters.field_splitter import ChatSplitter, Delta, FieldSplitter, JSONSplitter
from dspex.telemetry import Status


class Telling:
    """The events of one run. Replies are cut into fields here, as they come, before the worker has them whole."""

    def __init__(self, emit: EmitEvent) -> None:
        """Take who hears the events; a slow one holds the run back."""
        self._emit = emit
        self._waiting: list[Status] = []
        self._attempts: dict[int, int] = {}

    def heard(self, path: str, data: Mapping[str, Any]) -> None:
        """Note that a module has begun or ended; it is told before anything that happens later."""
        if data.get("state") == "begun" or data.get("outputs") is not None:
            self._waiting.append(Status(path, str(data.get("name", "")), str(data["state"])))

    async def flush(self) -> None:
        """Tell what was heard."""
        waiting, self._waiting = self._waiting, []
        for status in waiting:
            await self._emit(status)

    async def reply(self, path: str, *, module: int, fields: Mapping[str, str]) -> ReplyEvents:
        """Begin one reply to the module with this number; `fields` are its output fields by their names in the text."""
        attempt = self._attempts[module] = self._attempts.get(module, 0) + 1
        if attempt > 1:
            await self._emit(Status(path, "Predict", "again"))
        return ReplyEvents(self._emit, _EitherSplitter(dict(fields)), path=path, attempt=attempt)


class _EitherSplitter:
    """Reads chat and JSON layout: which one a worker's adapter asked for shows in the first character of the reply."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._held = ""
        self._splitter: FieldSplitter | None = None

    def feed(self, text: str) -> list[Delta]:
        """See `FieldSplitter.feed`."""
        if self._splitter is not None:
            return self._splitter.feed(text)
        self._held += text
        start = self._held.lstrip()
        if not start:
            return []
        self._splitter = JSONSplitter(self._names) if start[0] in "{`" else ChatSplitter(self._names)
        return self._splitter.feed(self._held)

    def partial(self) -> dict[str, Any] | None:
        """See `FieldSplitter.partial`."""
        return None if self._splitter is None else self._splitter.partial()

    def end(self) -> list[Delta]:
        """See `FieldSplitter.end`."""
        return [] if self._splitter is None else self._splitter.end()
