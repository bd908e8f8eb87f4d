"""How a search is carried out, and what it found."""

import difflib
import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dspex.errors import DefinitionError
from dspex.execution.clients import Budget
from dspex.execution.modules import Module, module_of
from dspex.language.programs import Program
from dspex.language.records import Example, Usage
from dspex.learning.evaluation import Comparison, Dataset, Report
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.journal import Journal
from dspex.learning.optimizers.limits import Limit, figure_of, front, parse_limit
from dspex.learning.optimizers.plotting import Point, scatter
from dspex.learning.optimizers.prompts import prompt_diff
from dspex.learning.optimizers.proposer import Trial

P = TypeVar("P", bound=Module | Program)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a search may use at most, from a few real runs: calls, tokens, dollars (None: no price) and seconds."""

    runs: int
    calls: int
    tokens: int
    usd: float | None
    seconds: float

    def __str__(self) -> str:
        money = "unknown cost" if self.usd is None else f"${self.usd:.2f}"
        return (
            f"at most {self.runs} runs, about {self.calls} calls, {self.tokens} tokens, {money}, {self.seconds:.0f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How a search is carried out.

    Args:
        rows: score each candidate on this many rows that it does not show itself; on all of these by default.
        validation: rows to score on instead of the training rows.
        test: rows that the search never sees; program and winner are compared on them once, at the end.
        insists: return the winner even where it is not significantly better on `test`.
        maximize: the figure to maximize; the first metric by default. A leading minus minimizes ("-usd").
        subject_to: limits on figures, such as "p95<2" or "accuracy>=0.9"; a candidate within them beats one without.
        budget: what may be spent; the search ends before it is passed.
        journal: where answers and trials are kept; with one, a killed search continues when it is started again.
        control: pauses and cancels from outside.
        concurrency: model calls under way at once.
        trials_at_once: candidates asked for, scored and told together.
        seed: of all choices; the same seed and the same replies end with the same program.
        on_trial: told of each trial as it is finished.
        on_estimate: told of the estimate, made from the first rows of the program as it is, before the search goes on.
    """

    rows: int | None = None
    validation: Dataset | None = None
    test: Dataset | None = None
    insists: bool = False
    maximize: str | None = None
    subject_to: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)
    journal: Journal | None = None
    control: Control = field(default_factory=Control)
    concurrency: int = 8
    trials_at_once: int = 1
    seed: int = 0
    on_trial: Callable[[Trial], None] | None = None
    on_estimate: Callable[[Estimate], None] | None = None

    def limits(self) -> list[Limit]:
        """Return `subject_to`, read."""
        return [parse_limit(text) for text in self.subject_to]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the held-out rows say: the program as it was, the winner, and their paired comparison."""

    before: Report
    after: Report
    comparison: Comparison

    @property
    def is_better(self) -> bool:
        """Whether the winner is significantly better: the paired interval lies above zero."""
        return self.comparison.is_better

    def __str__(self) -> str:
        said = "significantly better" if self.is_better else "no significant improvement"
        return (
            f"{said} on {self.comparison.pairs} held-out rows: {self.before.mean:.2f} {self.before.interval()} before, "
            f"{self.after.mean:.2f} {self.after.interval()} after; difference {self.comparison}"
        )


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[P]):
    """What a search found.

    `program` is the winner, of the kind that was given; or the program as it was, where the verdict on held-out rows
    is "no significant improvement" and nobody insisted. `trials` are in the order of asking; number 0 is the program
    as it was. `stopped` says why the search ended early, `warnings` what is doubtful about the data. `estimated` holds,
    by number of a trial, figures from all trials together, by which the best was chosen.
    """

    program: P
    original: P
    best: Trial
    trials: tuple[Trial, ...]
    verdict: Verdict | None = None
    estimate: Estimate | None = None
    spent: Usage = field(default_factory=Usage)
    made: int = 0
    stopped: str | None = None
    estimated: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each trial: number, label, score, rows scored, rows failed and calls made."""
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

    def front(self, *objectives: str) -> list[Trial]:
        """Return those that no other beats in every objective ("accuracy", "-usd"), the best in the first one first."""
        return front([trial for trial in self.trials if trial.candidate.is_final], objectives)

    def pick(self, *limits: str, maximize: str) -> Trial:
        """Return the best trial in one objective among those within limits: `pick("accuracy>=0.9", maximize="-usd")`.

        Raises:
            DefinitionError: no trial is within the limits.
        """
        read = [parse_limit(text) for text in limits]
        within = [
            trial
            for trial in self.trials
            if trial.candidate.is_final and all(limit.holds(trial.figures) for limit in read)
        ]
        if not within:
            raise DefinitionError(f"none of {len(self.trials)} trials is within {', '.join(limits)}")
        return front(within, (maximize,))[0]

    def changes(self) -> str:
        """Return what the winner changes, variable by variable, as text; texts as a diff."""
        before = _assignment(self.original)
        lines: list[str] = []
        for name, value in self.best.candidate.assignment.items():
            old = before.get(name)
            if old == value:
                continue
            lines.append(f"{name}:")
            shown = difflib.unified_diff(_lines(old), _lines(value), "before", "after", lineterm="", n=1)
            lines.extend(f"  {line}" for line in list(shown)[2:])
        return "\n".join(lines) if lines else "nothing: the program as it was did best"

    def prompt_changes(self, example: Example | None = None) -> str:
        """Return how the prompts of the winner differ from those before, predictor by predictor, as unified diffs.

        Inputs come from `example`; without one, they are shown by their names.
        """
        before = module_of(self.original)
        return prompt_diff(before, before.assign(self.best.candidate.assignment), example)

    def plot(self, x: str | None = None, y: str | None = None) -> str:
        """Return the trials on all rows as an SVG picture: one figure by another, and the front of both.

        Args:
            x: less is better; by default the dollars for a row, or the tokens where no price is known.
            y: more is better; the first metric by default.

        Raises:
            DefinitionError: there is no such figure.
        """
        shown = [trial for trial in self.trials if trial.candidate.is_final and trial.score is not None]
        has_price = any(trial.figures.get("usd", math.nan) > 0 for trial in shown)
        across, up = x or ("usd" if has_price else "tokens"), y or self.best.report.metrics[0]
        best_ones = {trial.number for trial in front(shown, (up, f"-{across}"))}
        marks = {0: "before", self.best.number: "best"}
        points = [
            Point(
                x=figure_of(trial.figures, across),
                y=figure_of(trial.figures, up),
                label=trial.candidate.label,
                is_on_front=trial.number in best_ones,
                mark=marks.get(trial.number, ""),
            )
            for trial in shown
        ]
        return scatter(points, x=f"{across} for a row", y=up)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        verdict = "" if self.verdict is None else f"<p>{html.escape(str(self.verdict))}</p>"
        return f"<div>{verdict}{self.plot()}<pre>{html.escape(self.changes())}</pre></div>"


def _assignment(program: Module | Program) -> Mapping[str, Any]:
    data = program if isinstance(program, Program) else program.to_program()
    texts = {
        f"{node.id}.instructions": node.signature.instructions
        for node in data.root.walk()
        if node.signature is not None
    }
    defaults = {name: variable.default for name, variable in data.space.items() if variable.default is not None}
    return {**texts, **defaults, **data.assignment}


def _lines(value: Any) -> list[str]:  # noqa: ANN401  # any JSON value
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines()
    if isinstance(value, list | tuple):
        return [json.dumps(item, ensure_ascii=False, default=str) for item in value]
    return [json.dumps(value, default=str)]
