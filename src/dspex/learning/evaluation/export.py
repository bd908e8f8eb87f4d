"""Reports as text tables, CSV and self-contained HTML."""

import csv
import html
import io
from collections.abc import Mapping, Sequence

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
    csv.writer(target, lineterminator="\r\n").writerow(
        cells
    )  # the \r makes the writer quote cells with a bare \r
    return target.getvalue().removesuffix("\r\n") + "\n"


def _flatten(
    report: Report, ordered: Sequence[Row] = ()
) -> tuple[list[dict[str, object]], list[str]]:
    """Return the rows as mappings by column, and the columns in order."""
    names = _column_names(report)
    rows = [_row_cells(row, names) for row in ordered or report.rows]
    return rows, list(dict.fromkeys(name for row in rows for name in row))


def _column_names(report: Report) -> dict[str, str]:
    """Return the column name of each data field, renamed if it clashes with a report column."""
    fields = list(dict.fromkeys(name for row in report.rows for name in row.example))
    columns = {
        *_REPORT_COLUMNS,
        *(f"out.{name}" for row in report.rows for name in row.outputs or {}),
    }
    columns |= {f"score.{name}" for row in report.rows for name in row.scores}
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


def to_html(report: Report, title: str = "Evaluation") -> str:
    """Return a self-contained page with figures and rows, failures first, then by score."""
    ordered = sorted(report.rows, key=lambda row: (row.error is None, row.score or 0.0, row.index))
    rows, columns = _flatten(report, ordered)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{_html_cells(row, columns)}</tr>" for row in rows)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<style>body{font:14px system-ui;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}</style>"
        f"<h1>{html.escape(title)}</h1><pre>{html.escape(to_text({report.dataset: report}))}</pre>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></html>"
    )


def _html_cells(row: Mapping[str, object], columns: Sequence[str]) -> str:
    return "".join(f"<td>{html.escape(str(row.get(name, '')))}</td>" for name in columns)
