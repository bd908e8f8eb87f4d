"""The outcome of a search as a self-contained HTML page and as CSV."""

import csv
import html
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
    """Return a page with the verdict, the plot, changes, importance, prompt diffs and trials."""
    stopped = f"<p>Stopped early: {html.escape(outcome.stopped)}</p>" if outcome.stopped else ""
    warned = "".join(f"<p>Warning: {html.escape(text)}</p>" for text in outcome.warnings)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<style>body{font:14px "
        "system-ui;margin:2em}table{border-collapse:collapse}pre{background:#f6f6f6;padding:1em;"
        "overflow:auto}td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}</style>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(outcome.conclusion)}</p>{stopped}{warned}"
        f"{outcome.plot()}<h2>What changed</h2><pre>{html.escape(outcome.changes())}</pre>"
        f"<h2>What mattered</h2>{_shares(outcome)}"
        f"<h2>Prompts</h2><pre>{html.escape(outcome.prompt_changes() or 'as they were')}</pre>"
        f"<h2>Trials</h2>{_table(outcome)}</html>"
    )


def _shares(outcome: Outcome[Any]) -> str:
    rows = (
        f"<tr><td>{html.escape(name)}</td><td>{share:.2f}</td></tr>"
        for name, share in outcome.importance().items()
    )
    return (
        "<table><tr><th>variable</th><th>share of the scores' "
        f"variance</th></tr>{''.join(rows)}</table>"
    )


def _table(outcome: Outcome[Any]) -> str:
    rows = outcome.table()
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(_shown(value))}</td>" for value in row.values())
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
