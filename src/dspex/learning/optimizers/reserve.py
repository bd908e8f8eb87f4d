"""Budget reserved for the comparison on held-out rows."""

import math
from collections.abc import Sequence

from dspex.execution.clients import Budget
from dspex.execution.clients.budget import Spend
from dspex.learning.optimizers.proposer import Trial

MARGIN = 1.15  # held-out rows may be slightly longer than the rows behind the estimate


class Reserve:
    """Reserves the cost of two runs over the held-out rows.

    They are those of the unchanged program and of the most expensive candidate.

    The amount is reserved even if less is left: then no new call is admitted, but stored replies
    still count. So a resumed search ends where an uninterrupted one does.
    """

    def __init__(self, budget: Budget, rows: int, *, most: float = 1.0, at_once: int = 1) -> None:
        """Take the budget of a search and the number of held-out rows.

        Args:
            budget: the budget of the search.
            rows: the number of held-out rows.
            most: the largest share of the budget that may be reserved.
            at_once: how many calls run concurrently.
        """
        self._at_once = at_once
        self._budget = budget
        self._rows = rows
        self._most = most
        self._held: Spend | None = None

    def update(self, trials: Sequence[Trial]) -> None:
        """Reserve the expected cost of the comparison, given `trials`.

        The unchanged program is the first of them.
        """
        rates = [_per_row(trial, self._at_once) for trial in trials if trial.candidate.is_final]
        if not rates or not self._rows:
            return
        calls, tokens, usd, seconds = (
            self._rows * (column[0] + max(column)) for column in zip(*rates, strict=True)
        )
        amount = Spend(
            calls=math.ceil(calls * (1.0 if calls.is_integer() else MARGIN)),
            tokens=math.ceil(tokens * MARGIN),
            usd=usd * MARGIN,
            seconds=seconds * MARGIN,
        )
        self.release()
        limits = (
            (self._budget.calls, amount.calls),
            (self._budget.tokens, amount.tokens),
            (self._budget.usd, amount.usd),
            (self._budget.seconds, amount.seconds),
        )
        if self._most >= 1 or all(
            limit is None or part <= limit * self._most for limit, part in limits
        ):
            self._held = amount
            self._budget.keep(amount)

    def release(self) -> None:
        """Release the reserved amount."""
        if self._held is not None:
            self._budget.keep(Spend())
            self._held = None

    def __str__(self) -> str:
        if self._held is None:
            return ""
        return (
            f" ({self._held.calls} calls are reserved for the comparison on {self._rows} held-out "
            "rows)"
        )


def _per_row(trial: Trial, at_once: int) -> tuple[float, float, float, float]:
    """Return calls (at least one), tokens, dollars and seconds per scored row."""
    report, rows = trial.report, max(1, trial.report.scored)
    usage = report.usage + report.judge_usage
    alone = sum(row.seconds for row in report.rows)
    # stored replies count with the time that they took
    seconds = max(report.seconds, alone / at_once) / rows
    return (
        max(1.0, usage.calls / rows),
        usage.total_tokens / rows,
        (usage.cost_usd or 0.0) / rows,
        seconds,
    )
