"""Sentences: where they start and end in a text."""

import re
from collections.abc import Iterator
from typing import Final

_STOPS: Final = ".!?\u2026"
_WIDE_STOPS: Final = "\u3002\uff01\uff1f"  # of Chinese and Japanese, without a space after them
_QUOTES: Final = "\"')\\]\u00bb\u201d\u2019"
_WIDE_QUOTES: Final = "\u300d\u300f\u201d\u2019"
# possessive, and with a look behind: linear on runs of dots
SENTENCE_END: Final = re.compile(
    rf"(?<![{_STOPS}])[{_STOPS}]++[{_QUOTES}]*+(?=\s)"
    rf"|[{_WIDE_STOPS}]++[{_WIDE_QUOTES}]*+|\n[ \t\r]*+\n"
    # around headings and before items of lists, in Markdown
    r"|^#{1,6}[ \t][^\n]*+\n|\n(?=[ \t]*+(?:#{1,6}|[-*+]|\d{1,3}[.)])[ \t])",
    re.MULTILINE,
)
_VISIBLE = re.compile(r"\S")
_WORD_BEFORE = re.compile(r"(?:^|[\s(\[\"'])([^\s(\[\"']{1,12})$")
_ABBREVIATION = re.compile(
    r"approx|art|bzw|ca|cf|co|corp|d\.h|dept|dr|e\.g|ed|etc|fig|hr|i\.e|inc|jr|ltd|max|min|mr|mrs"
    r"|ms|nr|pp?|prof|s|sr|str?|u\.a|usw|vgl|vol|vs?|z\.b|[a-z]|\d{1,2}",
    re.IGNORECASE,
)


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sentence, without the white space around it.

    A sentence ends at `.`, `!`, `?` or an ellipsis before white space, at their full-width forms,
    at an empty line, at a heading and before an item of a list; not after common abbreviations,
    initials and ordinals, nor before a word in lower case.
    """
    start = 0
    for match in SENTENCE_END.finditer(text):
        if match.group().startswith(".") and _is_inside(text, match.start(), match.end()):
            continue
        if span := _visible(text, start, match.end()):
            yield span
        start = match.end()
    if span := _visible(text, start, len(text)):
        yield span


def _is_inside(text: str, dot: int, end: int) -> bool:
    """Return whether a dot ends an abbreviation instead of a sentence."""
    following = _VISIBLE.search(text, end, end + 8)
    if following is not None and following.group().islower():
        return True
    word = _WORD_BEFORE.search(text, max(0, dot - 14), dot)
    return word is not None and _ABBREVIATION.fullmatch(word.group(1)) is not None


def _visible(text: str, start: int, end: int) -> tuple[int, int] | None:
    first = _VISIBLE.search(text, start, end)
    return first and (first.start(), start + len(text[start:end].rstrip()))
