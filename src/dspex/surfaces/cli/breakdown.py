"""Slices, pass rates and agreement of an evaluation as tables of the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from dspex.surfaces.cli.table import table


def breakdown_tables(parts: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table for each part that `breakdown` has returned."""
    if slices := parts.get("slices"):
        rows = [
            {"metric": name, **each, "mean": _number(each["mean"]), "interval": _range(each)}
            for name, values in slices.items()
            for each in values
        ]
        yield _table(rows, interval="95% interval")
    if rates := parts.get("pass_rates"):
        rows = [
            {
                "metric": name,
                "passes at": f"{rate['threshold']:g}",
                "share": _number(rate["share"]),
                "interval": _range(rate),
            }
            for name, rate in rates.items()
        ]
        yield _table(rows, interval="95% interval")
    if agreements := parts.get("agreement"):
        rows = [
            {
                **each,
                "metric": name,
                "kappa": _number(each["kappa"]),
                "agree": _number(each["share"]),
            }
            for name, each in agreements.items()
        ]
        columns = ("metric", "kappa", "agree", "pairs", "false_passes", "false_failures")
        yield table(rows, columns)
    if judges := parts.get("judge_variance"):
        yield judge_table(judges)


def judge_table(judges: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how steady judges are that were asked several times."""
    rows = [
        {
            "judge": name,
            "repeats": each["repeats"],
            "answers": each["answers"],
            "spread": _number(each["within"]),
            "reliability": _number(each["reliability"]),
            "verdicts that flip": f"{each['flips']:.3f} {_range(each)}",
        }
        for name, each in judges.items()
    ]
    return table(rows, list(rows[0]))


def _table(rows: list[dict[str, Any]], *, interval: str) -> str:
    body = [{interval if name == "interval" else name: row[name] for name in row} for row in rows]
    return table(body, list(body[0]))


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _range(part: Mapping[str, Any]) -> str:
    low, high = part["interval"]
    return "unknown" if low is None else f"[{low:.2f}, {high:.2f}]"
