"""Output as text for people and as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from dspex.errors import DspexError

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON value and nothing else."
)


def show_json(value: object) -> None:
    """Print one JSON value."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def say(text: str) -> None:
    """Print a message to standard error."""
    click.echo(text, err=True)


def fail(error: DspexError, *, as_json: bool) -> int:
    """Print an error to standard error, or as JSON; return the exit code."""
    if as_json:
        show_json({"error": error.to_dict()})
    else:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    return 1


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as a table with column heads; cells are cut at 60 characters."""
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max([len(name), *(len(line[n]) for line in cells)]) for n, name in enumerate(columns)]
    lines = [list(columns), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str
) -> None:
    """Print rows as JSON or as a table, and `empty` instead of a table without rows."""
    if as_json:
        show_json(list(rows))
    else:
        click.echo(table(rows, columns) if rows else empty)


def _cell(value: object) -> str:
    text = " ".join(_text(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping | list | tuple | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def fields_text(values: Mapping[str, Any]) -> str:
    """Return values as `name: value` lines; text with several lines follows its name."""
    lines = []
    for name, value in values.items():
        text = (
            value
            if isinstance(value, str)
            else json.dumps(value, ensure_ascii=False, indent=2, default=str)
        )
        lines.append(
            f"{click.style(f'{name}:', bold=True)} {text}"
            if "\n" not in text
            else f"{name}:\n{text}"
        )
    return "\n".join(lines)
