"""The outcome of a search as a self-contained HTML page and as CSV."""

import csv
import io
import json
import math
from typing import Any

from dspex.learning.evaluation.export import safe
from dspex.learning.optimizers.search import Outcome


def to_csv(outcome: Outcome[Any]) -> str:
    """Return one line per trial: number, label, score, rows, figures, and its values as JSON.

    A figure that could not be measured is empty.
    """
    lines: list[dict[str, object]] = []
    for trial, line in zip(outcome.trials, outcome.table(), strict=True):
        estimated = {
            f"estimated.{name}": value
            for name, value in outcome.estimated.get(trial.number, {}).items()
        }
        values = json.dumps(dict(trial.candidate.assignment), ensure_ascii=False, default=str)
        figures = {name: value for name, value in trial.figures.items() if name not in line}
        lines.append({**line, **figures, **estimated, "values": values})
    columns = list(dict.fromkeys(name for line in lines for name in line))
    target = io.StringIO()
    writer = csv.DictWriter(target, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _cell(value) for name, value in line.items()} for line in lines])
    return target.getvalue()


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else safe(value)


def to_html(outcome: Outcome[Any], title: str = "Optimization") -> str:
    """Return a page with verdict, plot, changes, importance, prompts, held-out rows and trials."""
    from dspex.learning.optimizers.outcome_page import outcome_page

    return outcome_page(outcome, title)
