"""The outcome of a search as a self-contained page: verdict, front, changes, prompts, trials."""

import json
import math
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from dspex.error_text import quantity
from dspex.learning.evaluation import Report, Row
from dspex.learning.evaluation.report_page import (
    confusion_part,
    cost_text,
    date_text,
    footer,
    models_text,
    number,
    scale,
    section,
)
from dspex.learning.evaluation.representation import difference_scale
from dspex.learning.evaluation.row_list import Entry, row_list
from dspex.learning.optimizers.labels import short_name
from dspex.learning.optimizers.limits import values_of
from dspex.learning.optimizers.proposer import Trial
from dspex.learning.optimizers.search import Outcome
from dspex.learning.optimizers.verdict import Verdict
from dspex.learning.statistics import mean_interval
from dspex.markup import (
    Content,
    Markup,
    badge,
    element,
    facts,
    folded,
    join,
    page,
    preformatted,
    share_drawing,
    table,
)


def outcome_page(outcome: Outcome[Any], title: str) -> str:
    """Return the page."""
    return page(
        title,
        element("div", *_verdict(outcome), class_=f"verdict {_tone(outcome)}"),
        *(element("p", "Warning: ", text, class_="warning") for text in outcome.warnings),
        element("section", facts(_facts(outcome)), class_="about", aria_label="Facts"),
        section("Trials and held-out rows", plot_figure(outcome)),
        section("What changed", preformatted(outcome.changes(is_short=True), is_diff=True)),
        _importance(outcome),
        _ablation(outcome),
        section("Prompts", *_prompts(outcome), class_="prompts"),
        _held_out_rows(outcome.verdict),
        section("All trials", _trials(outcome)),
        footer(),
        eyebrow="dspex optimization",
    )


def _tone(outcome: Outcome[Any]) -> str:
    if outcome.unmet:
        return "bad"
    return "good" if outcome.verdict is not None and outcome.verdict.is_better else "warn"


def _verdict(outcome: Outcome[Any]) -> Iterator[Markup]:
    yield element("p", *lead(outcome), class_="lead")
    if outcome.verdict is not None:
        yield verdict_scales(outcome.verdict)
    for sentence in notes(outcome):
        yield element("p", sentence, class_="note")
    if outcome.stopped:
        yield element("p", f"Stopped early: {outcome.stopped}.", class_="note")


def notes(outcome: Outcome[Any]) -> list[str]:
    """Return the conclusion as sentences, with the reason in place of what the lead tells."""
    verdict = outcome.verdict
    lines = [line for line in outcome.conclusion.splitlines() if line != str(verdict)]
    reasons = [] if verdict is None else [f"because {verdict.reason}"]
    return [f"{line[:1].upper()}{line[1:]}." for line in (*reasons, *lines)]


def lead(outcome: Outcome[Any]) -> list[Content]:
    """Return the verdict as one sentence."""
    best, verdict = outcome.best, outcome.verdict
    if outcome.unmet:
        return [
            element("strong", "No program is within the limits"),
            f": {'; '.join(outcome.unmet)}.",
        ]
    if verdict is not None:
        return verdict_lead(verdict)
    if not best.candidate.assignment:
        return [
            element("strong", "The unchanged program did best"),
            f" of {quantity(len(outcome.trials), 'trial')}.",
        ]
    score = "no score" if best.score is None else f"{best.score:.3g}"
    return [
        element("strong", "Not compared on held-out rows"),
        f": the best candidate, trial {best.number}, has {score} in {best.report.metrics[0]} on "
        "the rows of the search.",
    ]


def verdict_lead(verdict: Verdict) -> list[Content]:
    """Return a verdict as one sentence."""
    metric = verdict.before.metrics[0]
    before, after = (_mean(verdict, report) for report in (verdict.before, verdict.after))
    return [
        element(
            "strong",
            "Significantly better" if verdict.is_better else "No significant improvement",
        ),
        f" on {len(verdict.before.rows)} held-out rows: {before:.2f} in {metric} before, "
        f"{after:.2f} after.",
    ]


def _values(verdict: Verdict, report: Report) -> list[float]:
    metric = verdict.before.metrics[0]
    return list(values_of(report, metric, verdict.failures.get(metric)).values())


def _mean(verdict: Verdict, report: Report) -> float:
    return fmean(_values(verdict, report) or [math.nan])


def verdict_scales(verdict: Verdict) -> Markup:
    """Return the intervals before and after and that of the difference, drawn and as numbers."""
    reports = {"before": verdict.before, "after": verdict.after}
    values = {name: _values(verdict, report) for name, report in reports.items()}
    every = [value for column in values.values() for value in column]
    bounds = min([0.0, *every]), max([1.0, *every])
    lines = [
        scale(name, fmean(column), mean_interval(column, seed=reports[name].seed), bounds=bounds)
        for name, column in values.items()
        if column
    ]
    comparison = verdict.comparison
    figure = verdict.objective.removeprefix("-") or verdict.before.metrics[0]
    difference = difference_scale(comparison, f"difference in {figure}")
    return element("div", lines, difference, class_="scales")


def _facts(outcome: Outcome[Any]) -> dict[str, Content]:
    spent, first = outcome.spent, outcome.trials[0].report
    held_out = (
        None if outcome.verdict is None else quantity(len(outcome.verdict.before.rows), "row")
    )
    return {
        "model": models_text(spent + outcome.best.report.usage),
        "date": date_text(first.started_at),
        "trials": str(len(outcome.trials)),
        "searched": f"{first.dataset}, {quantity(len(first.rows), 'row')}",
        "held out": held_out,
        "objective": outcome.objective or first.metrics[0],
        "cost": cost_text(spent),
        "tokens": f"{spent.input_tokens:,} in, {spent.output_tokens:,} out",
        "calls": f"{spent.calls:,}",
        "estimate before": None if outcome.estimate is None else str(outcome.estimate),
    }


def plot_figure(outcome: Outcome[Any]) -> Markup:
    """Return the plot of the trials with its legend; held-out rows have their own marks."""
    legend = [
        ("trial", "a trial on the rows of the search"),
        ("on-front", "on the front"),
        ("before", "the unchanged program"),
        ("best", "the best candidate"),
    ]
    keys = [
        element("span", _key(element("circle", class_=name, cx=7, cy=7, r=5)), text)
        for name, text in legend
    ]
    if outcome.verdict is not None:
        for name, text in (("held-out", "before"), ("held-out after", "after")):
            mark = element("path", class_=name, d="M7 1l6 6l-6 6l-6 -6z", stroke_width=2)
            keys.append(element("span", _key(mark), f"{text}, on held-out rows"))
    caption = element("figcaption", element("div", keys, class_="legend"))
    plot = element(
        "div", Markup(outcome.plot()), class_="scroll", tabindex=0, role="group", aria_label="Plot"
    )
    return element("figure", plot, caption, class_="plot")


def _key(mark: Markup) -> Markup:
    return element("svg", mark, viewBox="0 0 14 14", width=14, height=14, aria_hidden="true")


def _importance(outcome: Outcome[Any]) -> Markup:
    shares = outcome.importance()
    if not shares:
        return Markup()
    rows = [
        (short_name(name), number(share), share_drawing(share)) for name, share in shares.items()
    ]
    head = ("variable", "share of the scores' variance", "0 to 1")
    return section("What mattered", table(head, rows, numeric=(1,)))


def _ablation(outcome: Outcome[Any]) -> Markup:
    if not outcome.ablation:
        return Markup()
    rows = [
        (short_name(name), f"{each.difference:+.3f}", str(each.interval), f"{each.p_value:.2g}")
        for name, each in outcome.ablation.items()
    ]
    head = ("value of", "difference that it makes", "95% interval", "p")
    return section("What each value is worth", table(head, rows, numeric=(1, 2, 3)))


def _prompts(outcome: Outcome[Any]) -> Iterator[Content]:
    if not (diffs := outcome.prompt_changes()):
        yield element("p", "The prompts are as they were.", class_="note")
    for diff in _by_predictor(diffs):
        name = diff.partition("\n")[0].removeprefix("--- ").removesuffix(", before")
        yield folded(name, preformatted(diff, is_diff=True))


def _by_predictor(diffs: str) -> list[str]:
    parts: list[list[str]] = []
    for line in diffs.splitlines():
        if line.startswith("--- ") and line.endswith(", before"):
            parts.append([])
        if parts:
            parts[-1].append(line)
    return ["\n".join(lines) for lines in parts]


def _held_out_rows(verdict: Verdict | None) -> Markup:
    if verdict is None:
        return Markup()
    after = {(row.index, row.repeat): row for row in verdict.after.rows}
    entries = [
        Entry(
            answers={"before": row, "after": after[row.index, row.repeat]},
            status=_status(row, after[row.index, row.repeat]),
        )
        for row in verdict.before.rows
        if (row.index, row.repeat) in after
    ]
    tones = {"lost": "bad", "gained": "good", "unchanged": ""}
    order = list(tones)
    entries.sort(key=lambda entry: order.index(entry.status))
    rows = row_list(entries, tones, order="lost and gained first")
    return join(confusion_part(verdict.after.rows), section("Held-out rows", rows))


def _status(before: Row, after: Row) -> str:
    old, new = (-math.inf if row.score is None else row.score for row in (before, after))
    return "gained" if new > old else "lost" if new < old else "unchanged"


def _trials(outcome: Outcome[Any]) -> Markup:
    metrics = outcome.best.report.metrics
    expected = ["expected"] if outcome.estimated else []
    names = [metrics[0], *expected, "rows", "failed", *metrics[1:], "usd", "tokens", "p95"]
    head = [
        element("th", "trial", scope="col"),
        element("th", "candidate", scope="col"),
        *(element("th", name, scope="col", class_="number") for name in names),
        element("th", "values", scope="col"),
    ]
    on_front = {trial.number for trial in outcome.front(metrics[0], "-tokens")}
    lines = [
        _trial(outcome, trial, names, is_on_front=trial.number in on_front)
        for trial in outcome.trials
    ]
    body = element(
        "table", element("thead", element("tr", head)), element("tbody", lines), class_="sortable"
    )
    return element("div", body, class_="scroll", tabindex=0, role="group", aria_label="All trials")


def _trial(outcome: Outcome[Any], trial: Trial, names: list[str], *, is_on_front: bool) -> Markup:
    candidate, report = trial.candidate, trial.report
    is_best = trial.number == outcome.best.number
    badges = [
        is_best and badge("best", "good"),
        trial.number == 0 and badge("before", "accent"),
        is_on_front and badge("front", "good"),
        not candidate.is_final and badge("cannot win"),
    ]
    metric = report.metrics[0]
    figures = {
        **trial.figures,
        metric: trial.score,
        "expected": outcome.estimated.get(trial.number, {}).get(metric),
        "rows": report.scored,
        "failed": report.failed,
    }
    values = json.dumps(dict(candidate.assignment), ensure_ascii=False, indent=2, default=str)
    return element(
        "tr",
        element("th", trial.number, scope="row"),
        element("td", candidate.label, " ", [mark for mark in badges if mark], class_="candidate"),
        *(_figure(figures.get(name)) for name in names),
        element("td", folded("show", preformatted(values)) if candidate.assignment else "none"),
        class_="best" if is_best else None,
    )


def _figure(value: float | None) -> Markup:
    is_known = value is not None and math.isfinite(value)
    text = "\u2013"
    if value is not None and is_known:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return element("td", text, class_="number", data_value=value if is_known else "")
