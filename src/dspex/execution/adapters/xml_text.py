"""Escape and read text between XML tags; find elements in markup that may be broken."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from html import escape as _escape

_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_ENTITY = re.compile(r"&(?:(lt|gt|amp|quot|apos)|#(\d{1,7})|#x([0-9A-Fa-f]{1,6}));")
_TAG = re.compile(
    r"<(/?)([^\W\d][\w.\-]*)((?:\s+[\w.:\-]+\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))*)\s*(/?)>"
)
_KEY = re.compile(r"\skey\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_NAME = re.compile(r"[^\W\d][\w.\-]*")
_SURROGATES = range(0xD800, 0xE000)
_BREAKS = {ord(sign): f"&#{ord(sign)};" for sign in "\t\n\r"}  # a reader takes them as spaces
ENTRY = "entry"
"""The tag of a dict entry, and of a member whose name cannot be a tag; `key` has its name."""


def escape(text: str) -> str:
    """Return text as it stands between two tags."""
    return _escape(text, quote=False)


def unescape(text: str) -> str:
    """Return the text that is meant between two tags; unknown entities stay as they are."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    if entity[1]:
        return _NAMED[entity[1]]
    code = int(entity[2]) if entity[2] else int(entity[3], 16)
    return entity[0] if code > 0x10FFFF or code in _SURROGATES else chr(code)


def tag_escaper(names: Iterable[str]) -> Callable[[str], str]:
    """Return a function that escapes the tags with these names in a text, and nothing else.

    Inputs often are markup or code, which a model reads best unchanged; but none of it may end its
    field or begin another one.
    """
    tags = re.compile(rf"<(?=/?(?:{'|'.join(map(re.escape, names))})\b)")
    return lambda text: tags.sub("&lt;", text) if "<" in text else text


def element(name: str, content: str, *, key: str | None = None) -> str:
    """Return an element; with a key, or a name that cannot be a tag, it is an entry."""
    if key is None and _NAME.fullmatch(name):
        return f"<{name}>{content}</{name}>"
    attribute = _escape(name if key is None else key).translate(_BREAKS)
    return f'<{ENTRY} key="{attribute}">{content}</{ENTRY}>'


class XMLElement:
    """An element of markup, with its place in the text."""

    __slots__ = ("_source", "children", "end", "name", "start", "tag")

    def __init__(self, source: str, *, name: str = "", tag: str = "", start: int = 0) -> None:
        self._source = source
        self.start = start
        self.end = len(source)
        self.tag = tag
        self.name = name  # of an entry, its key
        self.children: list[XMLElement] = []

    @classmethod
    def parse(cls, source: str) -> "XMLElement":
        """Return the content of an element as a tree.

        It takes any text: a tag without a partner ends where its parent ends, or is ignored.
        """
        root = cls(source)
        stack, open_tags = [root], Counter[str]()
        for mark in _TAG.finditer(source):
            is_end, tag, attributes, is_empty = mark.groups()
            if is_end:
                if open_tags[tag]:
                    _close(stack, open_tags, mark)
                continue
            key = _KEY.search(attributes) if tag == ENTRY else None
            name = tag if key is None else unescape(key[1] or key[2] or "")
            child = cls(source, name=name, tag=tag, start=mark.end())
            stack[-1].children.append(child)
            if is_empty:
                child.end = child.start
            else:
                stack.append(child)
                open_tags[tag] += 1
        return root

    @property
    def text(self) -> str:
        """Return the text of the content; tags inside stay in it."""
        return unescape(self._source[self.start : self.end])


def _close(stack: list[XMLElement], open_tags: Counter[str], mark: re.Match[str]) -> None:
    """End the elements that are open, up to the last one with this tag."""
    tag = ""
    while tag != mark[2]:
        closed = stack.pop()
        tag, closed.end = closed.tag, mark.start()
        open_tags[tag] -= 1
