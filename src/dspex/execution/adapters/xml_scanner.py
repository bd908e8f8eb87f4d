"""Find the elements of fields in a reply that comes in pieces."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dspex.execution.adapters.field_splitter import Delta
from dspex.execution.adapters.xml_text import escape, unescape

_CDATA: Final = "<![CDATA["
_CDATA_END: Final = "]]>"
_ENTITY_START: Final = re.compile(r"&[#\w]{0,9}\Z")


class Piece(NamedTuple):
    """A part of the content of a field, as markup; the first one of an element is empty."""

    field: str
    occurrence: int
    markup: str


class FieldTags:
    """The tags of the fields of one signature."""

    __slots__ = ("inside", "nested", "start")

    def __init__(self, fields: Mapping[str, bool]) -> None:
        """Take the wire names, and whether elements are inside."""
        names = "|".join(map(re.escape, sorted(fields, key=len, reverse=True)))
        self.nested = {name for name, is_nested in fields.items() if is_nested}
        self.start = re.compile(rf"<({names})(?:\s[^<>]*?)?(/?)>")
        self.inside = {
            name: _inside(name, is_nested=is_nested) for name, is_nested in fields.items()
        }


def _inside(name: str, *, is_nested: bool) -> re.Pattern[str]:
    """Return the pattern of what matters in a field: its end, CDATA, and its own tag inside."""
    start = rf"|<{re.escape(name)}(?:\s[^<>]*?)?(/?)>" if is_nested else "|(?!)()"
    return re.compile(rf"(</{re.escape(name)}\s*>)|{re.escape(_CDATA)}{start}")


class FieldScanner:
    """Splits one reply into the contents of its fields, and drops what is around them.

    Inside text the first closing tag ends a field; where elements are inside, its own. A field that
    is never closed ends with the reply. CDATA becomes escaped text. No piece ends within a tag or
    an entity.
    """

    def __init__(self, tags: FieldTags) -> None:
        self._tags = tags
        self._rest = ""
        self._field = ""
        self._depth = 0
        self._is_cdata = False
        self._counts: dict[str, int] = {}

    def feed(self, text: str, *, is_last: bool = False) -> list[Piece]:
        """Return the pieces that are certain after the chunk `text`."""
        self._rest += text
        pieces: list[Piece] = []
        is_certain = True
        while is_certain:
            if not self._field:
                is_certain = self._begin(pieces)
            elif self._is_cdata:
                is_certain = self._cdata(pieces, is_last=is_last)
            else:
                is_certain = self._content(pieces, is_last=is_last)
        return pieces

    def _begin(self, pieces: list[Piece]) -> bool:
        tag = self._tags.start.search(self._rest)
        if tag is None:
            start = self._rest.rfind("<")
            self._rest = self._rest[start:] if start >= 0 else ""
            return False
        name, is_empty = tag.groups()
        self._counts[name] = self._counts.get(name, 0) + 1
        self._rest = self._rest[tag.end() :]
        pieces.append(Piece(name, self._counts[name], ""))
        if not is_empty:
            self._field, self._depth = name, 1
        return True

    def _content(self, pieces: list[Piece], *, is_last: bool) -> bool:
        field = self._field
        tag = self._tags.inside[field].search(self._rest)
        if tag is None:
            cut = len(self._rest) if is_last else self._certain_length()
            self._take(pieces, cut, cut)
            return False
        if tag[0] == _CDATA:
            self._is_cdata = True
            self._take(pieces, tag.start(), tag.end())
            return True
        if tag[1]:
            self._depth -= 1
        elif not tag[2]:
            self._depth += 1
        self._take(pieces, tag.end() if self._depth else tag.start(), tag.end())
        if not self._depth:
            self._field = ""
        return True

    def _cdata(self, pieces: list[Piece], *, is_last: bool) -> bool:
        end = self._rest.find(_CDATA_END)
        if end >= 0:
            self._is_cdata = False
            self._add(pieces, self._field, escape(self._rest[:end]))
            self._rest = self._rest[end + len(_CDATA_END) :]
            return True
        cut = len(self._rest) if is_last else len(self._rest.rstrip("]"))
        self._add(pieces, self._field, escape(self._rest[:cut]))
        self._rest = self._rest[cut:]
        return False

    def _take(self, pieces: list[Piece], content: int, rest: int) -> None:
        """Add the first `content` characters; continue at `rest`."""
        self._add(pieces, self._field, self._rest[:content])
        self._rest = self._rest[rest:]

    def _add(self, pieces: list[Piece], name: str, markup: str) -> None:
        if markup:
            pieces.append(Piece(name, self._counts[name], markup))

    def _certain_length(self) -> int:
        """Return how much of the rest cannot become a tag, CDATA or entity with the next chunk."""
        rest = self._rest
        entity = _ENTITY_START.search(rest)
        cut = len(rest) if entity is None else entity.start()
        start = rest.rfind("<", 0, cut)
        if start < 0:
            return cut
        tail = rest[start:cut]
        if self._field in self._tags.nested:
            return cut if ">" in tail else start
        end = f"</{self._field}"
        may_end = end.startswith(tail) or (tail.startswith(end) and not tail[len(end) :].strip())
        return start if may_end or _CDATA.startswith(tail) else cut


class XMLSplitter:
    """Streams the fields of a reply: text unescaped, anything with elements inside as it is."""

    def __init__(self, tags: FieldTags, names: Mapping[str, str]) -> None:
        """Take the tags, and a mapping from wire names to field names."""
        self._scanner = FieldScanner(tags)
        self._tags = tags
        self._names = names
        self._space = ""  # at the end of a text it is dropped, before more text it is not
        self._is_empty = True

    def feed(self, text: str) -> list[Delta]:
        """See `FieldSplitter.feed`."""
        return self._deltas(self._scanner.feed(text))

    def partial(self) -> dict[str, Any] | None:
        """Return None: the deltas contain everything."""
        return None

    def end(self) -> list[Delta]:
        """See `FieldSplitter.end`."""
        return self._deltas(self._scanner.feed("", is_last=True))

    def _deltas(self, pieces: list[Piece]) -> list[Delta]:
        deltas = []
        for name, occurrence, markup in pieces:
            if not markup:
                self._space, self._is_empty = "", True
            if not markup or occurrence > 1:
                continue
            text = self._space + (markup if name in self._tags.nested else unescape(markup))
            text = text.lstrip() if self._is_empty else text
            shown = text.rstrip()
            self._space = text[len(shown) :]
            if shown:
                self._is_empty = False
                deltas.append((self._names[name], shown))
        return deltas
