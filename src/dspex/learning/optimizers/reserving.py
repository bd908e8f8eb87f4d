"""Budget that is set aside for the comparison on held-out rows."""

import math
from collections.abc import Sequence

from dspex.execution.clients.budgeted import Budget, Reservation
from dspex.learning.optimizers.proposer import Trial

MARGIN = 1.15  # held-out rows may be a little longer than those that the estimate comes from


class Reserve:
    """Keeps back what two runs over the held-out rows will take: the program as it is, and the dearest candidate.

    It is kept back also where there is not so much left: then no new call is admitted, and answers that are known go on
    to count. So a resumed search ends where an undisturbed one does.
    """

    def __init__(self, budget: Budget, rows: int, *, most: float = 1.0) -> None:
        """Take the budget of a search, the number of held-out rows, and the share of the budget that may be kept."""
        self._budget = budget
        self._rows = rows
        self._most = most
        self._held: Reservation | None = None

    def update(self, trials: Sequence[Trial]) -> None:
        """Keep back what `trials`, of which the program as it is comes first, let expect."""
        seen = [_per_row(trial) for trial in trials if trial.candidate.is_final]
        if not seen or not self._rows:
            return
        calls, tokens, usd = (self._rows * (column[0] + max(column)) for column in zip(*seen, strict=True))
        wanted = Reservation(
            math.ceil(tokens * MARGIN), usd * MARGIN, math.ceil(calls * (1.0 if calls.is_integer() else MARGIN))
        )
        self.release()
        limits = (
            (self._budget.calls, wanted.calls),
            (self._budget.tokens, wanted.tokens),
            (self._budget.usd, wanted.usd),
        )
        if self._most >= 1 or all(limit is None or part <= limit * self._most for limit, part in limits):
            self._held = self._budget.set_aside(wanted)

    def release(self) -> None:
        """Give back what was kept, to be spent."""
        if self._held is not None:
            self._budget.settle(self._held, None)
            self._held = None

    def __str__(self) -> str:
        if self._held is None:
            return ""
        return f" ({self._held.calls} calls are kept for the comparison on {self._rows} held-out rows)"


def _per_row(trial: Trial) -> tuple[float, float, float]:
    """Return calls, tokens and dollars for an answered row; at least one call."""
    usage, rows = trial.report.usage, max(1, trial.report.scored)
    return max(1.0, usage.calls / rows), usage.total_tokens / rows, (usage.cost_usd or 0.0) / rows
