"""Output as text for people and as JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click

from dspex.errors import DspexError
from dspex.failures import failure_dict, frames_text, user_frames
from dspex.surfaces.cli.table import number_text, time_text
from dspex.surfaces.cli.text_width import wrap_prose

_SHORT = 48  # characters of JSON that stay in a line
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON value and nothing else."
)


def show_json(value: object) -> None:
    """Print one JSON value, with times in ISO 8601."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=json_form))


def json_form(value: object) -> str:
    """Return the JSON text of a time, an id or another value of a type that JSON does not have."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def say(text: str) -> None:
    """Print a message to standard error; on a terminal, lines end between words."""
    click.echo(wrap_prose(text) if sys.stderr.isatty() else text, err=True)


def fail(error: DspexError, *, as_json: bool) -> int:
    """Print an error to standard error, or as JSON; return the exit code."""
    if as_json:
        show_json({"error": failure_dict(error)})
    else:
        say(failure_text(error.message, user_frames(error)))
    return 1


def failure_text(message: str, frames: Sequence[Mapping[str, Any]]) -> str:
    """Return an error for the terminal: its message, then the lines of code behind it."""
    head = f"{click.style('error:', fg='red', bold=True)} {message}"
    return f"{head}\n{frames_text(frames)}" if frames else head


def fields_text(values: Mapping[str, Any]) -> str:
    """Return values as `name: value` lines; text with several lines follows its name."""
    lines = []
    for name, value in values.items():
        text = value_text(value)
        head = click.style(f"{name}:", bold=True)
        lines.append(f"{head}\n{text}" if "\n" in text else f"{head} {text}")
    return "\n".join(lines)


def row_text(values: Mapping[str, Any]) -> str:
    """Return the attributes of a row that have values as lines, with rounded numbers."""
    return fields_text({n: _rounded(v) for n, v in values.items() if v not in (None, {}, [])})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(number_text(value)) if value == value else value
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    return [*map(_rounded, value)] if isinstance(value, list) else value


def value_text(value: object) -> str:
    """Return a value for people: text as it is, a time in short, else JSON, in a line if short."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, UUID):
        return str(value)
    line = json.dumps(value, ensure_ascii=False, default=json_form)
    if len(line) <= _SHORT:
        return line
    return json.dumps(value, ensure_ascii=False, indent=2, default=json_form)
