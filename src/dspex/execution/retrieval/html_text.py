"""The visible text of an HTML page."""

import html
import re
from collections.abc import Iterator
from typing import Final

_HIDDEN: Final = frozenset({"head", "noscript", "svg", "template"})
_RAW: Final = {name: re.compile(rf"</{name}", re.IGNORECASE) for name in ("script", "style")}
_BLOCKS: Final = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "div", "dl", "fieldset", "figure"),
        *("footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "main", "nav"),
        *("ol", "p", "pre", "section", "table", "ul"),
    }
)
_LINES: Final = frozenset({"br", "dd", "dt", "figcaption", "li", "option", "tr"})
_TAG_NAME = re.compile(r"</?([a-zA-Z][a-zA-Z0-9-]*)")
_TAG_END = re.compile(r"[>\"']")
_HUGE_REFERENCE = re.compile(r"&#\d{8,};?")
_SPACE = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\n\s*\n")
_NEWLINE_SPACE = re.compile(r" ?\n ?")


def html_text(page: str) -> tuple[str, str]:
    """Return the title and the text of a page, in linear time.

    A heading becomes a line with "#", as in Markdown.
    """
    title: list[str] = []
    parts: list[str] = []
    hidden: list[str] = []
    is_title = False
    for tag, text in _tokens(page):
        name = tag.lstrip("/")
        if tag == "body":
            hidden.clear()
        elif tag in _HIDDEN:
            hidden.append(tag)
        elif tag.startswith("/") and name in hidden:
            while hidden.pop() != name:
                pass
        is_title = tag == "title"
        visible = html.unescape(_HUGE_REFERENCE.sub("\ufffd", text.replace("\n", " ")))
        if is_title:
            title.append(visible)
        elif not hidden:
            parts += (_separator(tag), visible)
    text = _NEWLINE_SPACE.sub("\n", _SPACE.sub(" ", "".join(parts)))
    return " ".join("".join(title).split()), _EMPTY_LINES.sub("\n\n", text).strip()


def _separator(tag: str) -> str:
    name = tag.lstrip("/")
    if name in _BLOCKS:
        level = int(tag[1]) if tag[0] == "h" and tag[1:].isdigit() else 0
        return f"\n\n{'#' * level} " if level else "\n\n"
    return "\n" if name in _LINES else " " if name in {"td", "th"} else ""


def _tokens(page: str) -> Iterator[tuple[str, str]]:
    """Yield each tag ("p", "/p", at first "") with the text after it; no comments or scripts."""
    tag, start, scan = "", 0, _TagScan(page)
    while True:
        text_end = scan.next_tag(start)
        yield tag, page[start:text_end]
        if text_end == len(page):
            return
        if page.startswith("<!--", text_end):
            tag, start = "", _after(page, "-->", text_end)
            continue
        start = scan.end_of_tag(text_end)
        name = _TAG_NAME.match(page, text_end)
        tag = "" if name is None else page[text_end + 1 : name.end()].lower()
        if tag in _RAW:
            closing = _RAW[tag].search(page, start)
            start = len(page) if closing is None else closing.start()


def _after(page: str, text: str, start: int) -> int:
    position = page.find(text, start)
    return len(page) if position < 0 else position + len(text)


class _TagScan:
    """Finds tags; once a quote is not closed, tags end at the first ">", which keeps it linear."""

    _MARKUP = re.compile(r"<(?=[a-zA-Z/!?])")

    def __init__(self, page: str) -> None:
        self._page = page
        self._has_quotes = True

    def next_tag(self, start: int) -> int:
        match = self._MARKUP.search(self._page, start)
        return len(self._page) if match is None else match.start()

    def end_of_tag(self, start: int) -> int:
        position = start
        while self._has_quotes:
            match = _TAG_END.search(self._page, position)
            if match is not None and match.group() == ">":
                return match.end()
            closing = -1 if match is None else self._page.find(match.group(), match.end())
            self._has_quotes = closing >= 0
            position = closing + 1
        return _after(self._page, ">", start)
