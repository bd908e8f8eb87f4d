"""Texts that error messages are made of: short values, suggestions, places in the user's code."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_LONGEST_NAME, _MOST_NAMES = 100, 300


def place_of(error: BaseException | None) -> str:
    """Return the deepest line of the user's code that an exception passed, "" if there is none.

    A line reads "app.py:12 in shout". The file is relative to its import folder. Installed
    packages, the standard library and dspex are not user code.
    """
    place, step = "", error.__traceback__ if error is not None else None
    while step is not None:
        code, names = step.tb_frame.f_code, step.tb_frame.f_globals
        if _is_users(code.co_filename):
            parts = code.co_filename.replace(os.sep, "/").split("/")
            depth = str(names.get("__name__", "")).count(".") + 1 + (parts[-1] == "__init__.py")
            place = f"{'/'.join(parts[-depth:])}:{step.tb_lineno} in {code.co_qualname}"
        step = step.tb_next
    return place


def _is_users(file: str) -> bool:
    is_installed = any(
        f"{os.sep}{folder}{os.sep}" in file for folder in ("site-packages", "dist-packages")
    )
    return not (is_installed or file.startswith(("<", _LIBRARY, _HERE)))


def shorten(value: object, limit: int = 200) -> str:
    """Return `repr(value)`, cut to `limit` characters, never silently.

    The rest of a large value is not read.
    """
    if isinstance(value, str | bytes) and len(value) > limit:
        return f"{value[: limit - 20]!r}... ({len(value)} characters)"
    try:
        text = "".join(_pieces(value, limit + 1))
    except (
        RecursionError,
        ValueError,
    ):  # nested too deeply, or a number of more digits than Python writes
        return f"<{type(value).__name__}, too deep or too large to show>"
    if len(text) <= limit:
        return text
    size = (
        f"{len(value)} items"
        if isinstance(value, dict | list | tuple)
        else f"{len(text)} characters"
    )
    return f"{text[: limit - 20]}... ({size})"


def _pieces(value: object, room: int) -> Iterator[str]:
    """Yield `repr(value)` piece by piece, at least `room` characters of it or all."""
    if type(value) is dict:
        parts: Iterator[tuple[object, ...]] = iter(value.items())
        begin, end = "{", "}"
    elif type(value) is list or (type(value) is tuple and len(value) > 1):
        parts = ((part,) for part in value)
        begin, end = "[]" if type(value) is list else "()"
    else:
        yield repr(value[:room] if type(value) in {str, bytes} else value)  # type: ignore[index]
        return
    yield begin
    mark = ""
    for part in parts:
        for piece in (
            mark,
            *_pieces(part[0], room),
            *((": ", *_pieces(part[1], room)) if len(part) > 1 else ()),
        ):
            room -= len(piece)
            yield piece
        if room <= 0:
            return
        mark = ", "
    yield end


def suggest(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """Return `" Did you mean 'x'?"` where one of `known` is close to `name`, else "".

    The work it takes is bounded.
    """
    from difflib import get_close_matches  # costs 3 ms and is needed only when something is wrong

    if len(name) > _LONGEST_NAME:
        return ""
    close = (word for word in known if abs(len(word) - len(name)) <= 2 + len(name) // 2)
    matches = get_close_matches(name, list(islice(close, _MOST_NAMES)), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""
