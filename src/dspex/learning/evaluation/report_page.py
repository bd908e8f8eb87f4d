"""A report as a self-contained page: verdict, figures, confused labels, and every row."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dspex._version import __version__
from dspex.error_text import quantity
from dspex.language.records import Usage
from dspex.learning.evaluation.breakdown_page import breakdown_parts
from dspex.learning.evaluation.confusion import confusions
from dspex.learning.evaluation.report import Report, Row
from dspex.learning.evaluation.row_list import Entry, confusion_section, row_list
from dspex.learning.statistics import Interval
from dspex.markup import (
    Content,
    Markup,
    element,
    facts,
    folded,
    interval_drawing,
    page,
    preformatted,
    table,
)


def report_page(
    report: Report, title: str, prompts: Mapping[str, str], *, parts: Mapping[str, Any]
) -> str:
    """Return the page; `prompts` are those of the program by path, `parts` those of `breakdown`."""
    return page(
        title,
        _verdict(report),
        element("section", facts(report_facts(report)), class_="about", aria_label="Facts"),
        section("Metrics", metrics_table(report)) if report.scored else None,
        *breakdown_parts(parts),
        confusion_part(report.rows),
        _rows(report),
        prompts_part(prompts),
        footer(),
        eyebrow="dspex evaluation",
    )


def section(title: str, *contents: Content, class_: str | None = None) -> Markup:
    """Return a part of a page under its heading."""
    return element("section", element("h2", title), *contents, class_=class_)


def footer() -> Markup:
    """Return the line at the end of a page."""
    return element("footer", f"Written by dspex {__version__}.")


def confusion_part(rows: Sequence[Row]) -> Markup:
    """Return the confused labels of all fields with labels; empty without one."""
    if not (fields := confusions(rows)):
        return Markup()
    note = element(
        "p",
        "A line for each expected label, a column for each answer. Choose a cell to list its rows.",
        class_="note",
    )
    matrices = element("div", *map(confusion_section, fields), class_="pair")
    return section("Labels", note, matrices)


def prompts_part(prompts: Mapping[str, str]) -> Markup:
    """Return prompts by path, folded; empty without one."""
    if not prompts:
        return Markup()
    return section(
        "Prompts",
        *(folded(path, preformatted(text)) for path, text in prompts.items()),
        class_="prompts",
    )


def report_lead(report: Report) -> list[Content]:
    """Return the mean with its interval as one sentence."""
    if not report.scored:
        return [element("strong", "No row could be scored"), ": all failed."]
    interval = report.interval()
    rows = f"{report.scored} run" if report.repeats > 1 else f"{report.scored} row"
    return [
        element("strong", f"{report.mean:.3g}"),
        f" in {report.metrics[0]} over {rows}{'s' * (report.scored != 1)}; ",
        f"95% interval {interval.low:.2f} to {interval.high:.2f}.",
    ]


def _verdict(report: Report) -> Markup:
    name, interval = report.metrics[0], report.interval()
    notes = []
    if report.failed and report.scored:
        notes.append(f"{quantity(report.failed, 'row')} failed, which the mean leaves out.")
    if 0 < report.scored < 30:
        notes.append("On so few rows, the interval is wide.")
    return element(
        "div",
        element("p", *report_lead(report), class_="lead"),
        element(
            "div",
            scale(name, report.mean, interval, bounds=bounds_of(report, name)),
            class_="scales",
        )
        if report.scored
        else None,
        element("p", " ".join(notes), class_="note") if notes else None,
        class_="verdict" if report.scored else "verdict bad",
    )


def bounds_of(report: Report, metric: str) -> tuple[float, float]:
    """Return the ends of the scale of a metric: 0 and 1, or those of its scores if beyond."""
    scores = report.scores(metric)
    return min([0.0, *scores]), max([1.0, *scores])


def scale(name: str, value: float, interval: Interval, *, bounds: tuple[float, float]) -> Markup:
    """Return a line of scales: name, interval on its axis, and the figure as text."""
    start, end = bounds
    drawing = interval_drawing(value, interval.low, interval.high, start=start, end=end)
    ends = [element("span", f"{bound:.3g}") for bound in bounds]
    return element(
        "div",
        element("span", name),
        element("div", drawing, element("div", ends, class_="axis", aria_hidden="true")),
        element("span", f"{value:.2f} {interval}", class_="figure"),
    )


def metrics_table(report: Report) -> Markup:
    """Return all metrics with their intervals as numbers and drawn."""
    head = ["metric", "mean", "95% interval", "on its scale", "scored", "failed"]
    head += ["spread between runs"] if report.repeats > 1 else []
    rows: list[list[Content]] = []
    for name in report.metrics:
        mean, interval = report.mean_of(name), report.interval(name)
        start, end = bounds_of(report, name)
        drawing = interval_drawing(mean, interval.low, interval.high, start=start, end=end)
        rows.append([name, number(mean), str(interval), drawing, report.scored, report.failed])
        rows[-1] += [number(report.unsteadiness(name))] if report.repeats > 1 else []
    return table(head, rows, numeric=(1, 2, 4, 5, 6))


def number(value: float) -> str:
    """Return a figure with three digits after the point; "unknown" if it is not a number."""
    return "unknown" if value != value else f"{value:.3f}"  # NaN


def cost_text(usage: Usage) -> str:
    """Return the cost in dollars, or that it is unknown."""
    return "unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"


def models_text(usage: Usage) -> str:
    """Return the names of the models that were called."""
    return ", ".join(usage.by_model) or ("not recorded" if usage.calls else "none called")


def date_text(date: datetime | None) -> str:
    """Return a date and time of day with its zone, or that it was not recorded."""
    return "not recorded" if date is None else date.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def report_facts(report: Report) -> dict[str, Content]:
    """Return what a reader asks about a report besides its scores."""
    usage, rows = report.usage, len({row.index for row in report.rows})
    judges = report.judge_usage
    judge_calls = quantity(judges.calls, "call")
    runs = f", {report.repeats} runs each" if report.repeats > 1 else ""
    return {
        "model": models_text(usage),
        "date": date_text(report.started_at),
        "data": f"{report.dataset}, {quantity(rows, 'row')}{runs}",
        "cost": cost_text(usage),
        "tokens": f"{usage.input_tokens:,} in, {usage.output_tokens:,} out",
        "calls": f"{usage.calls:,}",
        "judge": f"{models_text(judges)}, {judge_calls}, cost {cost_text(judges)}"
        if judges.calls
        else None,
        "time of a row": f"{report.p50:.2f} s median, {report.p95:.2f} s p95"
        if report.scored
        else None,
        "whole run": f"{report.seconds:.1f} s" if report.seconds else None,
        "checksum of the data": element("code", report.checksum[:12]) if report.checksum else None,
    }


def _rows(report: Report) -> Markup:
    ordered = worst_first(report)
    scores = report.scores()
    is_binary = all(score in {0.0, 1.0} for score in scores)
    low, high = ("wrong", "right") if is_binary else ("below the mean", "at or above the mean")
    bar = 0.5 if is_binary else report.mean

    def status(row: Row) -> str:
        return "failed" if row.score is None else low if row.score < bar else high

    entries = [Entry(answers={"answered": row}, status=status(row)) for row in ordered]
    tones = {"failed": "warn", low: "bad", high: "good"}
    return section("Rows", row_list(entries, tones, order="worst first"))


def worst_first(report: Report) -> list[Row]:
    """Return the rows, failed ones first, then by score."""
    return sorted(
        report.rows, key=lambda row: (row.error is None, row.score or 0.0, row.index, row.repeat)
    )
