"""The columns that texts take on a terminal, and lines that end between words."""

import re
import shutil
import unicodedata

import click

_INVISIBLE = ("Mn", "Me", "Cf")  # categories of characters that take no column
_WORDS = re.compile(r"`[^`\n]*`\S*|\S+")  # a command in backticks is one word
_COMMAND = re.compile(r" +(dspex|cd|pytest|pip|curl) ")


def terminal_width() -> int | None:
    """Return the columns of the terminal, None without one; the variable COLUMNS sets them."""
    return shutil.get_terminal_size((0, 0)).columns or None


def columns_of(text: str) -> int:
    """Return the columns of a text: wide letters and pictures take two, some marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(each) in _INVISIBLE
        else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def start_of(text: str, width: int) -> str:
    """Return as much of a text as fits into a number of columns."""
    for number, character in enumerate(text):
        width -= columns_of(character)
        if width < 0:
            return text[:number]
    return text


def wrap_words(text: str, width: int) -> list[str]:
    """Return the lines of a text, broken at spaces where there are any."""
    lines = []
    while columns_of(text) > width:
        end = len(start_of(text, width))
        space = text.rfind(" ", 1, end + 1)
        end = end if space < 0 else space
        lines.append(text[:end])
        text = text[end:].lstrip()
    return [*lines, text]


def wrap_prose(text: str) -> str:
    """Return sentences with lines that end between words; without a terminal as they are.

    Commands stay whole, so that they can be copied: those in backticks, and indented lines of them.
    """
    width = terminal_width()
    return text if width is None else "\n".join(_prose(line, width) for line in text.split("\n"))


def _prose(line: str, width: int) -> str:
    if columns_of(click.unstyle(line)) <= width or _COMMAND.match(line):
        return line
    indent = line[: len(line) - len(line.lstrip())]
    lines: list[str] = []
    for word in _WORDS.findall(line):
        longer = f"{lines[-1]} {word}" if lines else f"{indent}{word}"
        if lines and columns_of(click.unstyle(longer)) > width:
            lines.append(f"{indent}{'  ' if indent else ''}{word}")
        else:
            lines[-1:] = [longer]
    return "\n".join(lines)
