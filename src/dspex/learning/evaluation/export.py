"""Reports as text tables, CSV and self-contained HTML."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.error_text import shorten
from dspex.language.signatures.content import Cited
from dspex.learning.evaluation.report import Report, Row

_REPORT_COLUMNS = ("index", "repeat", "error", "seconds")
_HIDDEN = "".join(map(chr, range(0x21))) + "\x7f\u00a0\ufeff"
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_text(reports: Mapping[str, Report]) -> str:
    """Return a table with one line per report: mean, interval, rows, times and cost."""
    head = ("", "mean", "95% interval", "scored", "failed", "p50 s", "p95 s", "cost")
    lines = [head, *(_text_line(name, report) for name, report in reports.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(_pad(line, widths)) for line in lines)


def _pad(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = zip(line, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]


def _text_line(name: str, report: Report) -> tuple[str, ...]:
    cost = report.usage.cost_usd
    return (
        name,
        f"{report.mean:.3f}",
        str(report.interval()),
        str(report.scored),
        str(report.failed),
        f"{report.p50:.2f}",
        f"{report.p95:.2f}",
        "unknown" if cost is None else f"${cost:.4f}",
    )


def to_csv(report: Report) -> str:
    """Return one line per row: example, outputs (`out.<field>`), scores (`score.<metric>`), error.

    The reasons of judges are `reason.<judge>`.

    A data field with the name of a report column is written as `data.<field>`. Values and names
    that a spreadsheet would take for a formula are prefixed with a quote.
    """
    rows, columns = _flatten(report)
    lines: list[list[object]] = [
        [*columns],
        *([row.get(name, "") for name in columns] for row in rows),
    ]
    return "".join(_csv_line([safe(cell) for cell in line]) for line in lines)


def _csv_line(cells: Sequence[object]) -> str:
    target = io.StringIO()
    # the \r makes the writer quote cells with a bare \r
    csv.writer(target, lineterminator="\r\n").writerow(cells)
    return target.getvalue().removesuffix("\r\n") + "\n"


def _flatten(report: Report) -> tuple[list[dict[str, object]], list[str]]:
    """Return the rows as mappings by column, and the columns in order."""
    names = _column_names(report)
    rows = [_row_cells(row, names) for row in report.rows]
    return rows, list(dict.fromkeys(name for row in rows for name in row))


def _column_names(report: Report) -> dict[str, str]:
    """Return the column name of each data field, renamed if it clashes with a report column."""
    fields = list(dict.fromkeys(name for row in report.rows for name in row.example))
    columns = {
        *_REPORT_COLUMNS,
        *(f"out.{name}" for row in report.rows for name in row.outputs or {}),
    }
    columns |= {f"score.{name}" for row in report.rows for name in row.scores}
    columns |= {f"reason.{name}" for row in report.rows for name in row.reasons}
    names = {name: name for name in fields if name not in columns}
    columns |= names.keys()
    for name in fields:
        if name not in names:
            column = f"data.{name}"
            while column in columns:
                column = f"data.{column}"
            names[name] = column
            columns.add(column)
    return names


def _row_cells(row: Row, names: Mapping[str, str]) -> dict[str, object]:
    return {
        "index": row.index,
        **({"repeat": row.repeat} if row.repeat else {}),
        **{names[name]: value for name, value in row.example.items()},
        **{f"out.{name}": value for name, value in (row.outputs or {}).items()},
        **{f"score.{name}": value for name, value in row.scores.items()},
        **{f"reason.{name}": text for name, text in row.reasons.items()},
        "error": row.error or "",
        "seconds": round(row.seconds, 4),
    }


def safe(value: object) -> object:
    """Return a safe cell value: text that a spreadsheet would take for a formula gets a quote.

    Formulas behind leading white space or control characters are recognized, too.
    """
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    is_formula = text.lstrip(_HIDDEN).startswith(_FORMULA) or text.startswith(("\t", "\r"))
    return f"'{text}" if is_formula else value


def to_html(
    report: Report,
    title: str = "Evaluation",
    *,
    prompts: Mapping[str, str] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> str:
    """Return a self-contained page: figures, confused labels, and all rows, the worst first.

    `prompts` are those of the program by path; see `dspex.learning.optimizers.prompts`. `parts`
    are those of `breakdown`: slices, pass rates, agreement and the variance of judges.
    """
    from dspex.learning.evaluation.report_page import report_page

    return report_page(report, title, prompts or {}, parts=parts or {})


def worst_rows(report: Report, count: int = 3) -> list[str]:
    """Return the worst rows as lines: number, score, and what was expected and answered.

    Rows with the best possible score of 1 are left out.
    """
    from dspex.learning.evaluation.report_page import worst_first

    rows = [row for row in worst_first(report) if row.score is None or row.score < 1]
    return [f"row {row.index}: {_reason(row)}" for row in rows[:count]]


def _reason(row: Row) -> str:
    if row.error is not None:
        return row.error
    outputs = row.outputs or {}
    common = {name: value for name, value in outputs.items() if name in row.example}
    pairs = [
        f"{name} {shorten(_text_of(value), 60)}, expected {shorten(row.example[name], 60)}"
        for name, value in common.items()
        if value != row.example[name]
    ]
    scores = ", ".join(f"{name} {score:.3g}" for name, score in row.scores.items())
    reasons = [f"{name}: {shorten(text, 120)}" for name, text in row.reasons.items()]
    return "; ".join((scores, *pairs, *reasons))


def _text_of(value: object) -> object:
    return value.text if isinstance(value, Cited) else value
