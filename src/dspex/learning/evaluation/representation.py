"""Datasets, reports and comparisons in notebooks."""

from dspex.error_text import quantity
from dspex.language.records.representation import value_cell
from dspex.learning.evaluation.comparison import Comparison
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.export import worst_rows
from dspex.learning.evaluation.rag import RagReport
from dspex.learning.evaluation.report import Report
from dspex.learning.evaluation.report_page import metrics_table, report_facts, report_lead
from dspex.markup import Markup, element, facts, folded, fragment, interval_drawing, table

_ROWS = 8


def dataset_html(dataset: Dataset) -> str:
    """Return the first rows, and how many there are of which fields."""
    fields = dataset.fields
    rows = [
        (str(index), *(value_cell(example[name]) if name in example else "" for name in fields))
        for index, example in enumerate(dataset[:_ROWS])
    ]
    more = f"; the first {_ROWS}:" if len(dataset) > _ROWS else ":"
    count = quantity(len(dataset), "row")
    lead = (element("span", dataset.name, class_="name"), f", {count}{more}")
    return fragment(element("p", *lead), table(("row", *fields), rows))


def report_html(report: Report) -> str:
    """Return the mean with its interval, all metrics, facts, and the worst rows, folded."""
    return fragment(*report_content(report))


def report_content(report: Report) -> tuple[Markup | None, ...]:
    """Return the parts of `report_html`."""
    worst = worst_rows(report)
    lines = [element("li", line, class_="value") for line in worst]
    return (
        element("p", *report_lead(report), class_="lead"),
        metrics_table(report) if report.scored else None,
        folded("the worst rows", element("ul", lines)) if lines else None,
        folded("facts", facts(report_facts(report))),
    )


def rag_report_html(rag: RagReport) -> str:
    """Return how many rows each case has, then the report."""
    cases = [(case, str(count)) for case, count in rag.counts.items()]
    return fragment(table(("case", "rows"), cases), *report_content(rag.report))


def comparison_html(comparison: Comparison) -> str:
    """Return the difference with its interval, drawn around 0."""
    conclusion = "Better" if comparison.is_better else "Not significantly better"
    return fragment(
        element("p", element("strong", conclusion), f": {comparison}.", class_="lead"),
        element("div", difference_scale(comparison, "difference"), class_="scales"),
        element("p", f"Because {comparison.because}.", class_="note"),
    )


def difference_scale(comparison: Comparison, name: str) -> Markup:
    """Return a line of scales: the interval of a difference, with 0 in the middle."""
    interval = comparison.interval
    ends = (abs(interval.low), abs(interval.high), abs(comparison.difference))
    reach = max(ends) * 1.15 or 1.0
    drawing = interval_drawing(
        comparison.difference, interval.low, interval.high, start=-reach, end=reach
    )
    marks = [element("span", text) for text in ("worse", "0", "better")]
    return element(
        "div",
        element("span", name),
        element("div", drawing, element("div", marks, class_="axis", aria_hidden="true")),
        element("span", str(comparison).partition(", p =")[0], class_="figure"),
    )
