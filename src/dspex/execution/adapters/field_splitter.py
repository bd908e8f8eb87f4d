"""Split a streamed reply into the text of its fields."""

import re
from typing import Any, Protocol, runtime_checkable

from dspex.language.signatures import Signature

Delta = tuple[str, str]
_HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\][ \t]*\n?", re.MULTILINE)


class FieldSplitter(Protocol):
    """Splits one reply, given chunk by chunk."""

    def feed(self, text: str) -> list[Delta]:
        """Return the (field, text) deltas that are certain after the chunk `text`."""
        ...

    def partial(self) -> dict[str, Any] | None:
        """Return the outputs so far; None if the deltas already contain everything."""
        ...

    def end(self) -> list[Delta]:
        """Return the remaining deltas of the complete reply."""
        ...


@runtime_checkable
class StreamingAdapter(Protocol):
    """An adapter that can stream replies."""

    def splitter(self, signature: Signature) -> FieldSplitter:
        """Return a splitter for one reply."""
        ...


class ChatSplitter:
    """Splits the chat layout; keeps back text that may become a header with the next chunk."""

    def __init__(self, names: dict[str, str]) -> None:
        """Take a mapping from wire names to field names."""
        self._names = names
        self._rest = ""
        self._field: str | None = None
        self._started: set[str] = set()
        self._at_start = True

    def feed(self, text: str) -> list[Delta]:
        """See `FieldSplitter.feed`."""
        self._rest += text
        deltas: list[Delta] = []
        while (mark := _HEADER.search(self._rest)) is not None:
            if mark.end() == len(self._rest) and not self._rest.endswith("\n"):
                break  # the line may continue
            self._append(self._rest[: mark.start()].rstrip(), deltas)
            name = self._names.get(mark[1])
            self._field = name if name is not None and name not in self._started else None
            if name is not None:
                self._started.add(name)
            self._rest, self._at_start = self._rest[mark.end() :], True
        undecided = _undecided_length(self._rest)
        cut = len(self._rest) - undecided
        self._append(self._rest[:cut], deltas)
        self._rest = self._rest[cut:]
        return deltas

    def partial(self) -> dict[str, Any] | None:
        """Return None: the deltas contain everything."""
        return None

    def end(self) -> list[Delta]:
        """See `FieldSplitter.end`."""
        deltas: list[Delta] = []
        while (mark := _HEADER.search(self._rest)) is not None:
            self._append(self._rest[: mark.start()].rstrip(), deltas)
            name = self._names.get(mark[1])
            self._field = name if name is not None and name not in self._started else None
            self._rest, self._at_start = self._rest[mark.end() :], True
        self._append(self._rest.rstrip(), deltas)
        self._rest = ""
        return deltas

    def _append(self, text: str, deltas: list[Delta]) -> None:
        if self._at_start:
            text = text.lstrip()
        if text:
            self._at_start = False
            if self._field is not None:
                deltas.append((self._field, text))


def _undecided_length(text: str) -> int:
    """Return how many characters at the end of `text` may be trailing space or a coming header."""
    line = text.rfind("\n") + 1
    last = text[line:].lstrip(" \t")
    start = "[[ ## "
    if last and (last.startswith(start) or start.startswith(last)):
        return len(text) - len(text[:line].rstrip())
    return len(text) - len(text.rstrip())


class JSONSplitter:
    """Reads the top-level values of one JSON object while it is streamed."""

    def __init__(self, names: dict[str, str]) -> None:
        """Take a mapping from wire names to field names."""
        self._names = names
        self._text = ""
        self._start = -1
        self._emitted: dict[str, str] = {}

    def feed(self, text: str) -> list[Delta]:
        """See `FieldSplitter.feed`."""
        self._text += text
        return self._deltas(is_whole=False)

    def partial(self) -> dict[str, Any] | None:
        """Return the object so far, including unfinished strings."""
        values = self._parse(is_whole=False)
        return {name: values[wire] for wire, name in self._names.items() if wire in values} or None

    def end(self) -> list[Delta]:
        """See `FieldSplitter.end`."""
        return self._deltas(is_whole=True)

    def _deltas(self, *, is_whole: bool) -> list[Delta]:
        deltas: list[Delta] = []
        for wire, value in self._parse(is_whole=is_whole).items():
            name = self._names.get(wire)
            if name is None or not isinstance(value, str):
                continue
            previous = self._emitted.get(name, "")
            if len(value) > len(previous) and value.startswith(previous):
                deltas.append((name, value[len(previous) :]))
                self._emitted[name] = value
        return deltas

    def _parse(self, *, is_whole: bool) -> dict[str, Any]:
        import jiter

        if self._start < 0:
            self._start = self._text.find("{")
            if self._start < 0:
                return {}
        text = self._text[self._start :].encode("utf-8", "surrogatepass")
        try:
            value = jiter.from_json(text, partial_mode=False if is_whole else "trailing-strings")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}
