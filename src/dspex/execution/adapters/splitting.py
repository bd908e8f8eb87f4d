"""A reply that is still coming, as text of fields: what streaming shows of it."""

import re
from typing import Any, Protocol, runtime_checkable

from dspex.language.signatures import Signature

Delta = tuple[str, str]
_HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\][ \t]*\n?", re.MULTILINE)


class Splitter(Protocol):
    """Takes a reply piece by piece; for one reply."""

    def feed(self, text: str) -> list[Delta]:
        """Return (field, more of its text) for what `text` makes certain."""
        ...

    def partial(self) -> dict[str, Any] | None:
        """Return the outputs as far as they can be read; None where that shows no more than the deltas."""
        ...

    def end(self) -> list[Delta]:
        """Return what was held back, now that the reply is whole."""
        ...


@runtime_checkable
class SplittingAdapter(Protocol):
    """An adapter that can show a reply as it comes."""

    def splitter(self, signature: Signature) -> Splitter:
        """Return a splitter for one reply."""
        ...


class ChatSplitter:
    """Finds headers wherever the stream is torn; text that may still become a header is held back."""

    def __init__(self, names: dict[str, str]) -> None:
        """Take field names by wire names."""
        self._names = names
        self._rest = ""
        self._field: str | None = None
        self._seen: set[str] = set()
        self._at_start = True

    def feed(self, text: str) -> list[Delta]:
        """See `Splitter.feed`."""
        self._rest += text
        found: list[Delta] = []
        while (mark := _HEADER.search(self._rest)) is not None:
            if mark.end() == len(self._rest) and not self._rest.endswith("\n"):
                break  # the line may go on
            self._tell(self._rest[: mark.start()].rstrip(), found)
            name = self._names.get(mark[1])
            self._field = name if name is not None and name not in self._seen else None
            if name is not None:
                self._seen.add(name)
            self._rest, self._at_start = self._rest[mark.end() :], True
        held = _held_back(self._rest)
        cut = len(self._rest) - held
        self._tell(self._rest[:cut], found)
        self._rest = self._rest[cut:]
        return found

    def partial(self) -> dict[str, Any] | None:
        """Return None: the deltas say it all."""
        return None

    def end(self) -> list[Delta]:
        """See `Splitter.end`."""
        found: list[Delta] = []
        while (mark := _HEADER.search(self._rest)) is not None:
            self._tell(self._rest[: mark.start()].rstrip(), found)
            name = self._names.get(mark[1])
            self._field = name if name is not None and name not in self._seen else None
            self._rest, self._at_start = self._rest[mark.end() :], True
        self._tell(self._rest.rstrip(), found)
        self._rest = ""
        return found

    def _tell(self, text: str, found: list[Delta]) -> None:
        if self._at_start:
            text = text.lstrip()
        if text:
            self._at_start = False
            if self._field is not None:
                found.append((self._field, text))


def _held_back(text: str) -> int:
    """Return how many characters at the end of `text` cannot be told yet: white space, or what may become a header."""
    line = text.rfind("\n") + 1
    last = text[line:].lstrip(" \t")
    start = "[[ ## "
    if last and (last.startswith(start) or start.startswith(last)):
        return len(text) - len(text[:line].rstrip())
    return len(text) - len(text.rstrip())


class JSONSplitter:
    """Reads the values of the top-level keys of one JSON object while it is written."""

    def __init__(self, names: dict[str, str]) -> None:
        """Take field names by wire names."""
        self._names = names
        self._text = ""
        self._start = -1
        self._told: dict[str, str] = {}

    def feed(self, text: str) -> list[Delta]:
        """See `Splitter.feed`."""
        self._text += text
        return self._deltas(is_whole=False)

    def partial(self) -> dict[str, Any] | None:
        """Return the object so far, unfinished texts included."""
        found = self._read(is_whole=False)
        return {name: found[wire] for wire, name in self._names.items() if wire in found} or None

    def end(self) -> list[Delta]:
        """See `Splitter.end`."""
        return self._deltas(is_whole=True)

    def _deltas(self, *, is_whole: bool) -> list[Delta]:
        found: list[Delta] = []
        for wire, value in self._read(is_whole=is_whole).items():
            name = self._names.get(wire)
            if name is None or not isinstance(value, str):
                continue
            told = self._told.get(name, "")
            if len(value) > len(told) and value.startswith(told):
                found.append((name, value[len(told) :]))
                self._told[name] = value
        return found

    def _read(self, *, is_whole: bool) -> dict[str, Any]:
        import jiter

        if self._start < 0:
            self._start = self._text.find("{")
            if self._start < 0:
                return {}
        text = self._text[self._start :].encode("utf-8", "surrogatepass")
        try:
            read = jiter.from_json(text, partial_mode=False if is_whole else "trailing-strings")
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}
