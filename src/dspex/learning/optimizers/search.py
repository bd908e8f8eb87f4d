"""The settings of a search and its outcome."""

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from dspex.argument_values import Count, Probability
from dspex.arguments import checks_names
from dspex.error_text import quantity
from dspex.errors import DefinitionError
from dspex.execution.clients import Budget
from dspex.execution.modules import Module, module_of
from dspex.language.programs import Program
from dspex.language.records import Example, Usage
from dspex.learning.evaluation import Comparison, Dataset
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.current_values import as_program, current_values
from dspex.learning.optimizers.front import Front
from dspex.learning.optimizers.goal import Goal
from dspex.learning.optimizers.importance import importance
from dspex.learning.optimizers.journal import Journal
from dspex.learning.optimizers.labels import short_name, value_text
from dspex.learning.optimizers.limits import figure_of, figures_of, front
from dspex.learning.optimizers.prompts import prompt_diff
from dspex.learning.optimizers.proposer import Trial
from dspex.learning.optimizers.scatter_plot import Point, scatter
from dspex.learning.optimizers.verdict import Verdict
from dspex.notebook import lazy_html
from dspex.telemetry import Event

P = TypeVar("P", bound=Module | Program)
OutcomeKind = Literal["improved", "no significant improvement", "budget too small", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Upper bounds for a search, from a few real runs.

    Calls, tokens, dollars (None: no price is known) and seconds. `proposals` is how many fit into
    the budget in any case; None without a limit on calls, tokens or dollars.
    """

    runs: int
    calls: int
    tokens: int
    usd: float | None
    seconds: float
    proposals: int | None = None

    def __str__(self) -> str:
        money = "unknown cost" if self.usd is None else f"${self.usd:.2f}"
        fit = ""
        if self.proposals is not None:
            fit = f"; the budget is for at least {quantity(self.proposals, 'proposal')}"
        return (
            f"at most {quantity(self.runs, 'run')}, about {quantity(self.calls, 'call')}, "
            f"{quantity(self.tokens, 'token')}, {money}, {self.seconds:.0f} s{fit}"
        )


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The settings of a search.

    Args:
        rows: score each candidate on this many of the rows that it does not show; by default on all
            of them.
        validation: rows to score on instead of the training rows.
        test: held-out rows; the unchanged program and the winner are compared on them once, at the
            end.
        insists: return the winner even if it is not significantly better on `test`, could not be
            compared there, or misses the limits.
        alpha: the p-value below which a difference on `test` is significant.
        maximize: the figure to maximize; the first metric by default. A leading minus minimizes
            ("-usd").
        subject_to: limits on figures, such as "p95<2", "failed<=0.05" or "accuracy>=0.9"; a
            candidate within them beats one without.
        on_error: the score of a failed row in every metric. By default the worst: 0 (1 if less is
            better), or the worst score among the other rows, whichever is worse.
        budget: what may be spent; the search ends before it would exceed it.
        journal: where replies and trials are stored; with one, a killed search continues when it is
            started again.
        control: pauses and cancels from outside.
        concurrency: concurrent model calls.
        trials_at_once: candidates that are asked for and scored together.
        race: stop a trial as soon as it cannot win any more: its rows are run in random order, and
            a sequential test is made after each part. A better candidate is stopped with a
            probability of at most 20%, and seldom if it is much better. For one metric with scores
            from 0 to 1 and no limits.
        ablate: compare the winner with itself without each of its values, on the held-out rows or
            else the training rows; for `Outcome.ablation`, and as far as the budget goes.
        seed: of all random choices; the same seed and the same replies lead to the same program.
        on_trial: called with each finished trial.
        on_progress: called after each trial with an event: a readable message, and the attributes
            `trial`, `score`, `best`, `best_trial`, `front` (trial numbers), `calls` and
            `spent_usd`.
        on_estimate: called with the estimate, from the first rows of the unchanged program, before
            the search goes on.
    """

    rows: Count | None = None
    validation: Dataset | None = None
    test: Dataset | None = None
    insists: bool = False
    alpha: Probability = 0.05
    maximize: str | None = None
    subject_to: Sequence[str] = ()
    on_error: float | None = None
    budget: Budget = field(default_factory=Budget)
    journal: Journal | None = None
    control: Control = field(default_factory=Control)
    concurrency: Count = 8
    trials_at_once: Count = 1
    race: bool = False
    ablate: bool = False
    seed: int = 0
    on_trial: Callable[[Trial], None] | None = None
    on_progress: Callable[[Event], None] | None = None
    on_estimate: Callable[[Estimate], None] | None = None

    def goal(self, metrics: Sequence[str]) -> Goal:
        """Return the parsed objective and limits.

        Raises:
            DefinitionError: a limit cannot be read, a figure is unknown, or `on_error` is infinite.
        """
        if self.on_error is not None and not math.isfinite(self.on_error):
            raise DefinitionError(
                f"on_error is the score of a failed row, a finite number, not {self.on_error!r}"
            )
        return Goal.of(
            metrics, maximize=self.maximize, subject_to=self.subject_to, on_error=self.on_error
        )


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[P]):
    """The outcome of a search.

    `program` is the winner, of the same kind as the original. Without `insists`, it is the
    unchanged program if the verdict on held-out rows is "no significant improvement", if the
    held-out rows could not be compared, or if no candidate is within the limits; `kept` gives the
    reason. `candidate` is the best candidate in any case, `unmet` the limits that it misses, and
    `objective` the figure that was maximized. `trials` are in the order of asking; trial 0 is the
    unchanged program. `new_calls` counts the calls of this run, `spent` also those of earlier runs
    with the same journal. `stopped` is the reason for an early end, `warnings` are about the data.
    `incomparable` is why the winner could not be compared on the held-out rows.
    `ablation` has the difference that each value of the winner makes, if the search ablated it.
    `estimated` holds the expected figures by trial number, given all trials; the best was chosen by
    them.
    """

    program: P
    original: P
    best: Trial
    trials: tuple[Trial, ...]
    verdict: Verdict | None = None
    estimate: Estimate | None = None
    spent: Usage = field(default_factory=Usage)
    new_calls: int = 0
    stopped: str | None = None
    estimated: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    kept: str | None = None
    objective: str = ""
    tie: str = ""
    incomparable: str | None = None
    ablation: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def result(self) -> OutcomeKind:
        """What the search came to.

        "improved": the winner is significantly better on the held-out rows, or, without such rows,
        better on those of the search. "budget too small": no proposal was scored. "stopped": it was
        cancelled, or ended before it could compare its winner.
        """
        is_better = bool(self.best.candidate.assignment) and self.incomparable is None
        if self.verdict is not None:
            is_better = self.verdict.is_better
        if is_better and not self.unmet:
            return "improved"
        if self.stopped == "cancelled":
            return "stopped"
        if self.stopped and not any(trial.candidate.is_final for trial in self.trials[1:]):
            return "budget too small"
        is_open = bool(self.best.candidate.assignment) and self.incomparable is not None
        return "stopped" if is_open else "no significant improvement"

    @property
    def candidate(self) -> P:
        """The best candidate as a program, even if the original program was kept."""
        program: P = self.original.assign(self.best.candidate.assignment)  # type: ignore[assignment]
        return program

    @property
    def conclusion(self) -> str:
        """A short summary: the verdict on held-out rows, the limits, and the resulting program."""
        best = f"the best candidate is trial {self.best.number}, {self.best.candidate.label}"
        sentences = [] if self.verdict is None else [str(self.verdict)]
        if self.kept is not None:
            sentences.append(f"the program stays unchanged ({self.kept}); {best}")
        elif not self.best.candidate.assignment:
            sentences.append(
                "the unchanged program "
                f"{'did best' if len(self.trials) > 1 else 'was the only trial'}"
            )
        elif self.verdict is None:
            sentences.append(f"{best}; there was no comparison on held-out rows")
        elif not self.verdict.is_better:
            sentences.append(f"the winner is returned anyway (insists=True); {best}")
        if self.result == "budget too small":
            sentences.append("the budget was too small to score one proposal")
        if self.unmet and self.kept is None:
            sentences.insert(0, f"no program within the limits ({', '.join(self.unmet)})")
        if self.tie:
            sentences.append(self.tie)
        return "\n".join(sentences)

    def __repr__(self) -> str:
        conclusion = " ".join(self.conclusion.splitlines())
        return f"<Outcome of {quantity(len(self.trials), 'trial')}: {conclusion}>"

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each trial: number, label, score, rows, failures and calls."""
        return [
            {
                "trial": trial.number,
                "label": trial.candidate.label,
                "score": trial.score,
                "rows": trial.report.scored,
                "failed": trial.report.failed,
                "calls": trial.report.usage.calls,
            }
            for trial in self.trials
        ]

    def front(self, *objectives: str) -> Front:
        """Return the undominated trials, best in the first objective first.

        Objectives are figures such as "accuracy" and "-usd".
        """
        trials = [trial for trial in self.trials if trial.candidate.is_final]
        return Front(front(trials, objectives), objectives)

    def front_table(self) -> list[dict[str, Any]]:
        """Return the front in all metrics and cost (tokens if no price is known), as rows."""
        metrics, first = self.best.report.metrics, self.trials[0].figures
        cost = "usd" if first.get("usd", math.nan) > 0 else "tokens"
        objectives = [self.objective if self.objective == f"-{name}" else name for name in metrics]
        return [
            {
                "trial": trial.number,
                **{
                    name: value if math.isfinite(value := trial.figures[name]) else None
                    for name in (*metrics, cost, "p95", "failed")
                },
                "label": trial.candidate.label,
            }
            for trial in self.front(*objectives, f"-{cost}")
        ]

    def pick(self, *limits: str, maximize: str) -> Trial:
        """Return the best trial in one objective among those within limits.

        For example `pick("accuracy>=0.9", maximize="-usd")`.

        As in the search itself, `estimated` figures take precedence over measured ones.

        Raises:
            DefinitionError: no trial is within the limits, no trial has the figure, or the figure
            is unknown.
        """
        goal = Goal.of(self.best.report.metrics, maximize=maximize, subject_to=limits)
        trials = self._on_all_rows()
        if not (within := [trial for trial in trials if not goal.unmet(self.known(trial))]):
            raise DefinitionError(
                f"none of {quantity(len(trials), 'trial')} on all rows is within "
                f"{', '.join(limits)}"
            )
        if not (
            measured := [
                trial for trial in within if not math.isnan(figure_of(trial.figures, maximize))
            ]
        ):
            raise DefinitionError(
                f"{goal.figure!r} could not be measured in any trial; pick by another figure"
            )
        return max(measured, key=lambda trial: goal.merit(trial, self.known(trial)))

    def known(self, trial: Trial) -> Mapping[str, float]:
        """Return the figures that a trial was judged by: measured, or expected given all trials."""
        return {**trial.figures, **self.estimated.get(trial.number, {})}

    def importance(self) -> dict[str, float]:
        """Return the share of the scores' variance that each variable explains, the largest first.

        Each assignment counts once, with its score on the most rows; see `importance.importance`.
        """
        trials = [
            trial
            for trial in self.trials
            if trial.candidate.rows is None and trial.score is not None
        ]
        trials.sort(key=lambda trial: trial.report.scored)
        return importance(
            list(
                {
                    repr(sorted(trial.candidate.assignment.items())): trial for trial in trials
                }.values()
            )
        )

    def _on_all_rows(self) -> list[Trial]:
        return [
            trial for trial in self.trials if trial.candidate.is_final and trial.score is not None
        ]

    def changes(self, *, is_short: bool = False) -> str:
        """Return the changes of the winner, variable by variable; texts as a diff.

        With `is_short`, numbers have three digits, names lack "self.", a diff of one part has no
        place, and the shortest change comes first.
        """
        before = _assignment(self.original)
        changes: list[list[str]] = []
        for name, value in self.best.candidate.assignment.items():
            old = before.get(name)
            if old == value:
                continue
            if is_short:
                old, value = (value_text(v) if isinstance(v, float) else v for v in (old, value))
            _, _, place, *diff = difflib.unified_diff(
                _lines(old), _lines(value), "before", "after", lineterm="", n=1
            )
            is_one = is_short and not any(line.startswith("@@") for line in diff)
            lines = diff if is_one else [place, *diff]
            head = f"{short_name(name) if is_short else name}:"
            changes.append([head, *(f"  {line}" for line in lines)])
        if is_short:
            changes.sort(key=len)
        return "\n".join(line for change in changes for line in change) or "no changes"

    def prompt_changes(self, example: Example | None = None) -> str:
        """Return unified diffs of the prompts before and after, predictor by predictor.

        Inputs come from `example`; without one, they are shown by name.
        """
        before = module_of(self.original)
        return prompt_diff(before, before.assign(self.best.candidate.assignment), example)

    def plot(self, x: str | None = None, y: str | None = None) -> str:
        """Return the trials on all rows as an SVG plot of two figures with their front.

        Args:
            x: less is better; by default dollars per row, or tokens if no price is known.
            y: more is better; the first metric by default.

        Raises:
            DefinitionError: a figure is unknown.
        """
        trials = self._on_all_rows()
        has_price = any(trial.figures.get("usd", math.nan) > 0 for trial in trials)
        across, up = x or ("usd" if has_price else "tokens"), y or self.best.report.metrics[0]
        best_ones = {trial.number for trial in front(trials, (up, f"-{across}"))}
        marks = {0: "before", self.best.number: "best"}
        points = [
            Point(
                x=figure_of(trial.figures, across),
                y=figure_of(trial.figures, up),
                label=trial.candidate.label,
                is_on_front=trial.number in best_ones,
                mark=marks.get(trial.number, ""),
            )
            for trial in trials
        ]
        held_out = [
            Point(x=figure_of(figures, across), y=figure_of(figures, up), label=label)
            for label, figures in self.held_out_figures().items()
        ]
        return scatter(points, x=f"{across} for a row", y=up, held_out=held_out)

    def held_out_figures(self) -> dict[str, Mapping[str, float]]:
        """Return all figures on the held-out rows, before and after; empty without a verdict."""
        if self.verdict is None:
            return {}
        reports = {"before": self.verdict.before, "after": self.verdict.after}
        return {
            f"held-out rows, {name}": figures_of(report, self.verdict.failures)
            for name, report in reports.items()
        }

    _repr_html_ = lazy_html("dspex.learning.optimizers.representation:outcome_html")


def _assignment(program: Module | Program) -> Mapping[str, Any]:
    data = as_program(program)
    texts = {
        f"{node.id}.instructions": node.signature.instructions
        for node in data.root.walk()
        if node.signature is not None
    }
    current = {name: value for name, value in current_values(data).items() if value is not None}
    return {**texts, **current, **data.assignment}


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines()
    if isinstance(value, list | tuple):
        return [json.dumps(item, ensure_ascii=False, default=str) for item in value]
    return [json.dumps(value, default=str)]
