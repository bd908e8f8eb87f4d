"""Texts that error messages are made of: short values, suggestions, lines of the user's code.

Workers without dspex load this file by its path: it imports only the standard library.
"""

import linecache
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TypedDict

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_LONGEST_NAME, _MOST_NAMES = 100, 300
_LONGEST_CODE, _LONGEST_CHAIN = 200, 20
MOST_FRAMES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One thing that is wrong with one value.

    `field` is the top-level name, `path` leads to the value inside it (`items[2].price`),
    `constraint` names the rule that was broken and `expected` states what would have been accepted.
    """

    field: str
    path: str
    value: object
    message: str
    constraint: str
    expected: str

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-ready values; the offending value as a short `repr`."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "value": shorten(self.value),
        }


class CodeFrame(TypedDict):
    """A line of the user's code that an error passed; `file` is relative to its import folder."""

    file: str
    line: int
    function: str
    code: str


def place_of(error: BaseException | None) -> str:
    """Return the deepest line of the user's code that an exception passed, "" if there is none.

    A line reads "app.py:12 in shout". The file is relative to its import folder. Installed
    packages, the standard library and dspex are not user code.
    """
    steps = _user_steps(error, 1)
    if not steps:
        return ""
    file, function = _place(steps[-1])
    return f"{file}:{steps[-1].tb_lineno} in {function}"


def frames_of(error: BaseException | None) -> list[CodeFrame]:
    """Return the lines of the user's code behind an error, the innermost last.

    At most 8 lines, each cut to 200 characters, without values. They lead through errors of dspex
    to the first other exception; of an error of syntax, the last one is the line in question.
    """
    frames: list[CodeFrame] = []
    for link in causes_of(error):
        lines = [_frame(step) for step in _user_steps(link, MOST_FRAMES)]
        frames += [line for line in lines if line not in frames[-1:]]
        if isinstance(link, SyntaxError) and link.filename and _is_user_code(link.filename):
            file, code = os.path.basename(link.filename), (link.text or "").strip()
            frames.append(
                CodeFrame(file=file, line=link.lineno or 0, function="<module>", code=code)
            )
    return cut_frames(frames)


def cut_frames(frames: Sequence[CodeFrame]) -> list[CodeFrame]:
    """Return the innermost 8 lines, each text cut to 200 characters."""
    return [
        CodeFrame(
            file=frame["file"][-_LONGEST_CODE:],
            line=frame["line"],
            function=frame["function"][:_LONGEST_CODE],
            code=frame["code"][:_LONGEST_CODE],
        )
        for frame in frames[-MOST_FRAMES:]
    ]


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, up to the first that dspex did not raise; bounded."""
    for _ in range(_LONGEST_CHAIN):  # a chain may lead back to its start
        if error is None:
            return
        yield error
        if isinstance(members := getattr(error, "exceptions", None), tuple):  # a group
            error = members[0]
        elif any(cls.__module__.partition(".")[0] == "dspex" for cls in type(error).__mro__):
            error = error.__cause__
        else:
            return


def _user_steps(error: BaseException | None, most: int) -> Sequence[TracebackType]:
    steps, step = deque[TracebackType](maxlen=most), error.__traceback__ if error else None
    while step is not None:
        if _is_user_code(step.tb_frame.f_code.co_filename):
            steps.append(step)
        step = step.tb_next
    return steps


def _frame(step: TracebackType) -> CodeFrame:
    file, names = step.tb_frame.f_code.co_filename, step.tb_frame.f_globals
    linecache.checkcache(file)
    code = linecache.getline(file, step.tb_lineno, names).strip()
    short_file, function = _place(step)
    return CodeFrame(file=short_file, line=step.tb_lineno, function=function, code=code)


def _place(step: TracebackType) -> tuple[str, str]:
    """Return the file, relative to its import folder, and the function."""
    code, names = step.tb_frame.f_code, step.tb_frame.f_globals
    parts = code.co_filename.replace(os.sep, "/").split("/")
    depth = str(names.get("__name__", "")).count(".") + 1 + (parts[-1] == "__init__.py")
    # Python 3.10, which workers may have, knows only the name
    return "/".join(parts[-depth:]), getattr(code, "co_qualname", code.co_name)


def _is_user_code(file: str) -> bool:
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
    except (RecursionError, ValueError):
        # nested too deeply, or a number of more digits than Python writes
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


def suggest(
    name: str, known: Mapping[str, object] | Sequence[str], *, similarity: float = 0.6
) -> str:
    """Return `" Did you mean 'x'?"` where one of `known` is close to `name`, else "".

    The work it takes is bounded. `similarity` is that of `difflib`, from 0 to 1.
    """
    from difflib import get_close_matches  # costs 3 ms and is needed only when something is wrong

    if len(name) > _LONGEST_NAME:
        return ""
    close = (word for word in known if abs(len(word) - len(name)) <= 2 + len(name) // 2)
    matches = get_close_matches(name, list(islice(close, _MOST_NAMES)), n=1, cutoff=similarity)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def quantity(count: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "2 rows", "1,200 calls"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def alternatives(words: Sequence[str]) -> str:
    """Return words as an English list: "queued, running or paused"."""
    return listing(words, "or")


def listing(words: Sequence[str], conjunction: str = "and") -> str:
    """Return words as an English list: "1, 2 and 3"."""
    return f" {conjunction} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
