"""The trials and the front of a search as tables of the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.surfaces.cli.table import table


def trials_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `Outcome.table` as a table."""
    shown = [{**row, "score": _score(row.get("score"))} for row in rows]
    return table(shown, list(shown[0])) if shown else "no trials"


def front_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `Outcome.front_table` as a table below its heading."""
    shown = [{name: _text(value) for name, value in row.items()} for row in rows]
    head = "front, the best in one figure or in several at once:"
    return f"{head}\n{table(shown, list(shown[0]))}"


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)
