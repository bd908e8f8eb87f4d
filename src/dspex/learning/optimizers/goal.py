"""The goal of a search: one figure to maximize, within limits on others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.learning.evaluation import Report
from dspex.learning.optimizers.limits import (
    BUILT_IN,
    Limit,
    figure_of,
    figures_of,
    parse_limit,
    values_of,
    worst_of,
)
from dspex.learning.optimizers.proposer import Trial


class Merit(NamedTuple):
    """What decides between trials: the limits met, the objective, fewer tokens, then the age."""

    limits: int
    objective: float
    tokens: float
    age: int

    def ties_with(self, other: "Merit") -> bool:
        """Return whether neither the limits nor the objective decide."""
        return self[:2] == other[:2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The objective of a search (a leading minus means that less is better) and its limits.

    A failed row counts as `on_error` in every metric; if that is None, as the worst row.
    """

    objective: str
    limits: tuple[Limit, ...]
    metrics: tuple[str, ...]
    on_error: float | None = None

    @classmethod
    def of(
        cls,
        metrics: Sequence[str],
        *,
        maximize: str | None = None,
        subject_to: Sequence[str] = (),
        on_error: float | None = None,
    ) -> "Goal":
        """Read an objective (the first metric by default) and limits.

        Raises:
            DefinitionError: a limit cannot be read, there is no such figure, or a metric is named
            like a built-in one.
        """
        if reserved := [name for name in metrics if name in BUILT_IN]:
            raise DefinitionError(
                f"the metric name {reserved[0]!r} is reserved for a built-in figure "
                f"({', '.join(BUILT_IN)}); rename the metric"
            )
        goal = cls(
            objective=maximize or metrics[0],
            limits=tuple(map(parse_limit, subject_to)),
            metrics=tuple(metrics),
            on_error=on_error,
        )
        goal.check_known((goal.objective, *(limit.figure for limit in goal.limits)))
        return goal

    def check_known(self, names: Sequence[str]) -> None:
        """Check that every name, without its leading minus, is a figure that trials have.

        Raises:
            DefinitionError: a figure is unknown; the message lists the known ones.
        """
        figures = [*self.metrics, *BUILT_IN]
        for name in (name.removeprefix("-") for name in names):
            if name not in figures:
                raise DefinitionError(
                    f"unknown figure {name!r}.{suggest(name, figures)} Figures are: "
                    f"{', '.join(figures)}"
                )

    @property
    def figure(self) -> str:
        """The figure of the objective, without its sign."""
        return self.objective.removeprefix("-")

    def is_less_better(self, figure: str) -> bool:
        """Whether the objective or a limit wants a low value of `figure`."""
        if figure == self.figure:
            return self.objective.startswith("-")
        return figure in BUILT_IN or any(
            limit.is_upper for limit in self.limits if limit.figure == figure
        )

    def worst(self, reports: Sequence[Report], figure: str) -> float:
        """Return the value that a failed row of `reports` counts as in `figure`."""
        is_less_better = self.is_less_better(figure)
        return worst_of(reports, figure, is_less_better=is_less_better, on_error=self.on_error)

    def figures(self, report: Report) -> dict[str, float]:
        """Return all figures of a report; failed rows count as the worst.

        Metrics are NaN if every row failed.
        """
        if not report.scored:
            return figures_of(report)
        return figures_of(report, {name: self.worst([report], name) for name in report.metrics})

    def merit(self, trial: Trial, figures: Mapping[str, float]) -> "Merit":
        """Return the sort key of a trial."""
        value = figure_of(figures, self.objective)
        report = trial.report
        if report.failed and report.scored and self.figure in {"usd", "tokens"}:
            # a failed row costs nothing and must not win for that
            values = values_of(report, self.figure, self.worst([report], self.figure))
            value = -math.fsum(values.values()) / max(len(values), 1)
            value = value if self.objective.startswith("-") else -value
        tokens = trial.figures.get("tokens", math.nan)
        return Merit(
            limits=len(self.limits) - len(self.unmet(figures)),
            objective=-math.inf if math.isnan(value) else value,
            tokens=-math.inf if math.isnan(tokens) else -tokens,
            age=-trial.number,
        )

    def unmet(self, figures: Mapping[str, float]) -> list[Limit]:
        """Return the limits that `figures` do not meet."""
        return [limit for limit in self.limits if not limit.holds(figures)]

    def unmeasured(self, figures: Mapping[str, float], *, besides: Sequence[str] = ()) -> list[str]:
        """Return the unmeasured figures of the objective, the limits and `besides`."""
        names = (
            self.figure,
            *(limit.figure for limit in self.limits),
            *(name.removeprefix("-") for name in besides),
        )
        return [name for name in dict.fromkeys(names) if math.isnan(figure_of(figures, name))]
