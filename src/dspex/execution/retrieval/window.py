"""The division of a text into windows that end at the best boundary within a budget."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

BYTES_PER_TOKEN: Final = 4
_VISIBLE = re.compile(r"\S")
_SPACE = re.compile(r"\s+")
_DIGITS: Final = b"0123456789"
_MARKS: Final = bytes(code for code in range(33, 127) if not chr(code).isalnum())


def estimate_tokens(text: str) -> int:
    """Return an estimate of the tokens of a text: a quarter of its bytes in UTF-8, rounded up.

    English prose has about four bytes a token, German fewer; CJK characters have three bytes. Marks
    and numbers of ASCII have more tokens than that: one for each mark and for two digits.
    """
    data = text.encode(errors="replace")
    return max(-(-len(data) // BYTES_PER_TOKEN), _dense_tokens(data))


def _dense_tokens(data: bytes) -> int:
    """Return the tokens of a text of few words; that of prose is below the estimate by its size."""
    marks = len(data) - len(data.translate(None, _MARKS))
    digits = len(data) - len(data.translate(None, _DIGITS))
    return -(-(len(data) + 5 * marks + 2 * digits) // 6)


def windows(
    text: str,
    boundaries: Sequence[re.Pattern[str]],
    *,
    tokens: int,
    overlap: int = 0,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Yield the start and end of windows of at most `tokens`, in linear time.

    A window ends at the last match, in its second half, of the first of the `boundaries` that
    matches there; without any, at the budget. The next one starts at most `overlap` tokens before
    that end, at a word. Windows neither start nor end with white space.
    """
    stop = len(text) if stop is None else stop
    size = tokens * BYTES_PER_TOKEN
    visible = _VISIBLE.search(text, start, stop)
    start = stop if visible is None else visible.start()
    while visible is not None:
        limit = start + _head(text[start : min(stop, start + size)], tokens)
        if limit <= visible.start():  # the overlap leaves no room
            start = visible.start()
            continue
        low = max(visible.end(), (start + limit + 1) // 2)
        end = limit if limit == stop else _boundary(text, boundaries, (low, limit))
        yield start, start + len(text[start:end].rstrip())
        visible = _VISIBLE.search(text, end, stop)
        tail = text[max(start + 1, end - overlap * BYTES_PER_TOKEN) : end]
        start = _word_after(text, end - _tail(tail, overlap), end)
        if start == end and visible is not None:
            start = visible.start()


def _head(text: str, tokens: int) -> int:
    """Return how many characters of the start of a text have at most `tokens`; at least one."""
    data = text.encode(errors="replace")[: tokens * BYTES_PER_TOKEN]
    if _dense_tokens(data) > tokens:
        ends = range(len(data))
        data = data[: bisect_right(ends, tokens, key=lambda end: _dense_tokens(data[:end])) - 1]
    return max(1, len(data.decode(errors="ignore")))


def _tail(text: str, tokens: int) -> int:
    """Return how many characters of the end of a text have at most `tokens`."""
    data = text.encode(errors="replace")
    data = data[max(0, len(data) - tokens * BYTES_PER_TOKEN) :]
    if _dense_tokens(data) > tokens:
        sizes, count = range(len(data)), len(data)
        size = bisect_right(sizes, tokens, key=lambda n: _dense_tokens(data[count - n :])) - 1
        data = data[count - size :]
    return len(data.decode(errors="ignore"))


def _boundary(text: str, boundaries: Sequence[re.Pattern[str]], span: tuple[int, int]) -> int:
    for boundary in boundaries:
        ends = [match.end() for match in boundary.finditer(text, *span)]
        if ends:
            return ends[-1]
    return span[1]


def _word_after(text: str, start: int, end: int) -> int:
    """Return the first start of a word from `start` on; `end` if there is none."""
    space = _SPACE.search(text, max(0, start - 1), end)
    return end if space is None else space.end()
