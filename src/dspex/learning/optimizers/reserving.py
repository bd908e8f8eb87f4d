"""Budget that is set aside for the comparison on held-out rows."""

import math
from collections.abc import Sequence

from dspex.execution.clients import Budget
from dspex.execution.clients.budget import Amount
from dspex.learning.optimizers.proposer import Trial

MARGIN = 1.15  # held-out rows may be a little longer than those that the estimate comes from


class Reserve:
    """Keeps back what two runs over the held-out rows will take: the program as it is, and the dearest candidate.

    It is kept back also where there is not so much left: then no new call is admitted, and answers that are known go on
    to count. So a resumed search ends where an undisturbed one does.
    """

    def __init__(self, budget: Budget, rows: int, *, most: float = 1.0, at_once: int = 1) -> None:
        """Take the budget of a search, the number of held-out rows, and the share of the budget that may be kept.

        Calls are made `at_once`.
        """
        self._at_once = at_once
        self._budget = budget
        self._rows = rows
        self._most = most
        self._held: Amount | None = None

    def update(self, trials: Sequence[Trial]) -> None:
        """Keep back what `trials`, of which the program as it is comes first, let expect."""
        seen = [_per_row(trial, self._at_once) for trial in trials if trial.candidate.is_final]
        if not seen or not self._rows:
            return
        calls, tokens, usd, seconds = (self._rows * (column[0] + max(column)) for column in zip(*seen, strict=True))
        wanted = Amount(
            calls=math.ceil(calls * (1.0 if calls.is_integer() else MARGIN)),
            tokens=math.ceil(tokens * MARGIN),
            usd=usd * MARGIN,
            seconds=seconds * MARGIN,
        )
        self.release()
        limits = (
            (self._budget.calls, wanted.calls),
            (self._budget.tokens, wanted.tokens),
            (self._budget.usd, wanted.usd),
            (self._budget.seconds, wanted.seconds),
        )
        if self._most >= 1 or all(limit is None or part <= limit * self._most for limit, part in limits):
            self._held = wanted
            self._budget.keep(wanted)

    def release(self) -> None:
        """Give back what was kept, to be spent."""
        if self._held is not None:
            self._budget.keep(Amount())
            self._held = None

    def __str__(self) -> str:
        if self._held is None:
            return ""
        return f" ({self._held.calls} calls are kept for the comparison on {self._rows} held-out rows)"


def _per_row(trial: Trial, at_once: int) -> tuple[float, float, float, float]:
    """Return calls, tokens, dollars and seconds for an answered row; at least one call."""
    report, rows = trial.report, max(1, trial.report.scored)
    usage, alone = report.usage, sum(row.seconds for row in report.rows)
    seconds = max(report.seconds, alone / at_once) / rows  # of answers that were known already, the time they took
    return max(1.0, usage.calls / rows), usage.total_tokens / rows, (usage.cost_usd or 0.0) / rows, seconds
