"""Tables that fit the terminal: cells are shortened, and columns left out, until a row fits."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click

from dspex.surfaces.cli.text_width import columns_of, start_of, terminal_width, wrap_words

_GAP = "  "
_NARROWEST = 8
_MAX_LINES = 5  # of a value in a single row
_JOINERS = ("\u200c", "\u200d")  # these shape the letters beside them
_LEAST = {  # shorter says nothing
    **dict.fromkeys(("status", "created_at"), len("interrupted")),
    **dict.fromkeys(("name", "program", "dataset", "subject", "kind"), 12),
    "label": 16,
}
_BOTH_ENDS = "label"  # of trials, which differ at the end
_COLORS = {
    **dict.fromkeys(("active", "completed", "ready"), "green"),
    **dict.fromkeys(("failed", "revoked", "interrupted"), "red"),
    **dict.fromkeys(("queued", "running", "paused", "draft", "pending", "waiting"), "yellow"),
    **dict.fromkeys(("archived", "cancelled", "deprecated"), "bright_black"),
}


def table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, width: int | None = None
) -> str:
    """Return rows below column heads, in at most `width` characters a line (the terminal's).

    Without a terminal nothing is shortened. A single row that does not fit is shown with an
    attribute a line. An id is shown as its last eight characters, which commands accept.
    Characters that would move the cursor or turn the direction of the text are replaced.
    """
    cells = {name: [name, *(_cell(row.get(name)) for row in rows)] for name in columns}
    widths = {name: max(map(columns_of, cells[name])) for name in columns}
    width = terminal_width() if width is None else width
    if width is not None and _total(widths) > width:
        for name in columns:
            values = [row.get(name) for row in rows]
            if any(isinstance(value, datetime) for value in values):
                cells[name] = [name, *map(_short_time, values)]
                widths[name] = max(map(columns_of, cells[name]))
        if len(rows) == 1 and _total(widths) > width:
            return _record({name: _cell(rows[0].get(name)) for name in columns}, width)
        _fit(widths, width)
    lines = []
    for number in range(len(rows) + 1):
        parts = [_styled(name, cells[name][number], width) for name, width in widths.items()]
        lines.append(_GAP.join(parts).rstrip())
    lines[0] = click.style(lines[0], bold=True)
    return "\n".join(lines)


def short_id(key: UUID) -> str:
    """Return the end of an id: the random part, by which people tell rows apart."""
    return str(key)[-8:]


def time_text(value: datetime) -> str:
    """Return a time in the time zone of this machine, as every table and text shows it."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _short_time(value: object) -> str:
    return value.astimezone().strftime("%m-%d %H:%M") if isinstance(value, datetime) else ""


def _record(cells: Mapping[str, str], width: int) -> str:
    """Return a line for each attribute; the lines that a long value needs begin below its start."""
    heads = min(max(map(columns_of, cells)), width // 2)
    lines = []
    for name, cell in cells.items():
        parts = wrap_words(cell, width - heads - len(_GAP))
        if len(parts) > _MAX_LINES:
            parts = [*parts[: _MAX_LINES - 1], f"{parts[_MAX_LINES - 1][:-1]}…"]
        for head, part in zip([name, *[""] * len(parts)], parts, strict=False):
            lines.append(f"{_padded(head, heads)}{_GAP}{part}".rstrip())
    return "\n".join(lines)


def _fit(widths: dict[str, int], width: int) -> None:
    """Shorten the widest columns; where that is not enough, leave out all but the first ones."""
    least = {name: min(size, _LEAST.get(name, _NARROWEST)) for name, size in widths.items()}
    while _total(widths) > width:
        widest = max(widths, key=lambda name: widths[name] - least[name])
        if widths[widest] > least[widest]:
            widths[widest] -= 1
        elif len(widths) > 2:
            del widths[list(widths)[-2]]  # the last one is the id
        else:
            return


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _styled(name: str, cell: str, width: int) -> str:
    if name == _BOTH_ENDS and columns_of(cell) > width:
        end = width // 2 - 1
        cell = f"{start_of(cell, width - end - 1)}…{cell[-end:]}"
    text = _padded(cell, width)
    color = _COLORS.get(cell) if name == "status" else None
    return text if color is None else click.style(text, fg=color)


def _padded(cell: str, width: int) -> str:
    text = cell if columns_of(cell) <= width else f"{start_of(cell, width - 1)}…"
    return text + " " * (width - columns_of(text))


def _cell(value: object) -> str:
    text = " ".join(_text(value).split())
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in _JOINERS else "\ufffd" for each in text)


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, UUID):
        return short_id(value)
    if isinstance(value, Mapping) and value:
        texts = [_text(part) for part in value.values()]
        if len(texts) == 1:
            return texts[0]
        return ", ".join(f"{name}: {text}" for name, text in zip(value, texts, strict=True))
    if isinstance(value, Mapping | list | tuple | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return number_text(value) if isinstance(value, float) else str(value)


def number_text(value: float) -> str:
    """Return a number with three digits, or with one behind the point if it is large."""
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
