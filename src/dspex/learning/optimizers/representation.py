"""Verdicts, outcomes and fronts in notebooks."""

from typing import Any

from dspex.error_text import quantity
from dspex.learning.optimizers.front import Front
from dspex.learning.optimizers.outcome_page import (
    lead,
    notes,
    plot_figure,
    verdict_lead,
    verdict_scales,
)
from dspex.learning.optimizers.proposer import Trial
from dspex.learning.optimizers.search import Outcome
from dspex.learning.optimizers.team_worth import TeamWorth, tokens_of_row
from dspex.learning.optimizers.verdict import Verdict
from dspex.markup import Content, badge, element, folded, fragment, preformatted, table


def verdict_html(verdict: Verdict) -> str:
    """Return the verdict as a sentence with its intervals, and the reason."""
    return fragment(
        element("p", *verdict_lead(verdict), class_="lead"),
        verdict_scales(verdict),
        element("p", f"Because {verdict.reason}.", class_="note"),
    )


def outcome_html(outcome: Outcome[Any]) -> str:
    """Return the verdict, the plot, and, folded, what changed."""
    return fragment(
        element("p", *lead(outcome), class_="lead"),
        None if outcome.verdict is None else verdict_scales(outcome.verdict),
        element("p", "\n".join(notes(outcome)), class_="note value"),
        [element("p", badge("warning", "warn"), f" {text}") for text in outcome.warnings],
        plot_figure(outcome),
        folded("what changed", preformatted(outcome.changes(is_short=True), is_diff=True)),
    )


def front_html(front: Front) -> str:
    """Return the trials of a front with the figures that it is about."""
    names = [name.removeprefix("-") for name in front.objectives]
    rows = [_trial(trial, names) for trial in front]
    head = ("trial", *names, "candidate")
    aims = [
        f"{name.removeprefix('-')} (less is better)" if name.startswith("-") else name
        for name in front.objectives
    ]
    about = f"{quantity(len(front), 'trial')} that no other beats in {', '.join(aims)}:"
    return fragment(element("p", about), table(head, rows, numeric=range(1, len(names) + 1)))


def _trial(trial: Trial, names: list[str]) -> tuple[Content, ...]:
    figures = (f"{trial.figures[name]:.4g}" for name in names)
    return (str(trial.number), *figures, trial.candidate.label)


def team_worth_html(worth: TeamWorth) -> str:
    """Return the scores of team and single agent, and what each member adds."""
    reports = {"team": worth.team, "single agent": worth.single}
    scores = [
        (name, f"{report.mean:.3f}", f"{tokens_of_row(report):.0f}")
        for name, report in reports.items()
        if report is not None
    ]
    gains = {} if worth.gain is None else {"the team against the single agent": worth.gain}
    parts = {**gains, **worth.members, **worth.needed}
    rows = [
        (name, f"needed: {part}" if isinstance(part, str) else str(part))
        for name, part in parts.items()
    ]
    return fragment(
        table(("", "score", "tokens a row"), scores, numeric=(1, 2)),
        table(("member", "what it adds"), rows) if rows else None,
    )
