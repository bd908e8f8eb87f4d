"""The trials and the front of a search as tables of the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dspex.learning.optimizers.labels import short_name
from dspex.surfaces.cli.table import table

MIN_SHARE: Final = 0.05


def trials_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `Outcome.table` as a table."""
    shown = [{**row, "score": _score(row.get("score"))} for row in rows]
    return table(shown, list(shown[0])) if shown else "no trials"


def front_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `Outcome.front_table` as a table below its heading."""
    shown = [{name: _text(value) for name, value in row.items()} for row in rows]
    head = "front, the best in one figure or in several at once:"
    return f"{head}\n{table(shown, list(shown[0]))}"


def worth_texts(
    importance: Mapping[str, float | None], ablation: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield which variables mattered, and the difference that each value of the winner makes."""
    shares = [
        f"{short_name(name)} {share:.2f}"
        for name, share in importance.items()
        if share is not None and share >= MIN_SHARE
    ]
    if shares:
        yield f"importance, as a share of the scores' variance: {', '.join(shares)}"
    rows = [
        {
            "value of": short_name(name),
            "difference": f"{each['difference']:+.3f}",
            "95% interval": f"[{each['low']:.2f}, {each['high']:.2f}]",
            "p": f"{each['p_value']:.2g}",
        }
        for name, each in ablation.items()
    ]
    if rows:
        yield f"the winner against itself without each value:\n{table(rows, list(rows[0]))}"


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)
