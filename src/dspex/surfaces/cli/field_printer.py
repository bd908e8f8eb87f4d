"""The text of output fields on a terminal while a program runs, until the result replaces it."""

import math
import sys
from collections.abc import Collection, Mapping
from typing import Self
from unicodedata import east_asian_width

import click

from dspex.surfaces.cli.output import fields_text, value_text
from dspex.surfaces.cli.text_width import terminal_width
from dspex.telemetry import FieldDelta, StreamEvent


class FieldPrinter:
    """Prints fields as they arrive, if it `is_live`, and then the result unless it is there.

    `names` are the fields to print; others belong to steps inside the program. After an error, the
    `with` block ends the line.
    """

    def __init__(self, *, is_live: bool) -> None:
        """Print only the result if not `is_live`."""
        self.is_live = is_live
        self.names: Collection[str] = ()
        self._fields: dict[str, str] = {}
        self._source: tuple[str, int] | None = None
        self._written = ""

    async def emit(self, event: StreamEvent) -> None:
        """Print what an event adds; another reply with the same field starts over."""
        if not isinstance(event, FieldDelta) or event.field not in self.names:
            return
        source = (event.path, event.attempt)
        if source != self._source and event.field in self._fields:
            self._erase()
        self._source = source
        if event.field not in self._fields:
            head = click.style(f"{event.field}:", bold=True)
            self._write(f"\n{head} " if self._fields else f"{head} ")
        self._fields[event.field] = self._fields.get(event.field, "") + event.text
        self._write(event.text)

    def finish(self, outputs: Mapping[str, object]) -> None:
        """Show the outputs."""
        printed = {name: text.strip() for name, text in self._fields.items()}
        if printed == {name: value_text(value).strip() for name, value in outputs.items()}:
            self.end_line()
            return
        self._erase()
        click.echo(fields_text(outputs))

    def end_line(self) -> None:
        """End the line if anything was printed."""
        if self._written:
            click.echo()
        self._written, self._fields = "", {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:
            self.end_line()

    def _write(self, text: str) -> None:
        self._written += text
        click.echo(text, nl=False)
        sys.stdout.flush()

    def _erase(self) -> None:
        """Erase what was printed; what has scrolled off the screen stays."""
        if self._written:
            rows = _rows(click.unstyle(self._written), terminal_width() or 80) - 1
            sys.stdout.write(f"\r\x1b[{rows}A\x1b[J" if rows else "\r\x1b[J")
        self._written, self._fields = "", {}


def _rows(text: str, columns: int) -> int:
    """Return how many rows of the terminal a text takes."""
    return sum(max(1, math.ceil(_cells(line) / columns)) for line in text.split("\n"))


def _cells(line: str) -> int:
    return sum(2 if east_asian_width(mark) in "WF" else 1 for mark in line)
