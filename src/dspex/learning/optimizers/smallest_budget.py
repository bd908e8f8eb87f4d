"""The smallest budget that can score one proposal; a smaller one is refused before the search."""

import math
from dataclasses import dataclass

from dspex.errors import BudgetError
from dspex.execution.clients import Budget
from dspex.learning.optimizers.estimate import RunCost
from dspex.learning.optimizers.reserve import MARGIN

_CAUTION = 0.8  # rows may be shorter than those of the probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The runs of a search up to the end of its first proposal.

    `rows` score the unchanged program, `fewest` to `most` runs lead to the first proposal and score
    it, and each of the `held_out` rows is run twice.
    """

    rows: int
    fewest: int
    most: int
    held_out: int = 0

    @property
    def least(self) -> int:
        """The runs without which there is no proposal."""
        return self.rows + self.fewest + 2 * self.held_out

    @property
    def enough(self) -> int:
        """The runs that certainly suffice."""
        return self.rows + self.most + 2 * self.held_out

    def proposals(self, budget: Budget, cost: RunCost) -> int | None:
        """Return how many proposals fit in any case, each as expensive as the first.

        None without a limit.
        """
        runs = [limit / each for _, limit, each, _ in _limits(budget, cost) if each]
        if not runs:
            return None
        return max(0, int(min(runs)) - self.rows - 2 * self.held_out) // max(1, self.most)

    def check(self, budget: Budget, cost: RunCost) -> None:
        """Refuse a budget that cannot score one proposal, and name one that can.

        Raises:
            BudgetError: calls, tokens or dollars are too few.
        """
        for name, limit, each, cheapest in _limits(budget, cost):
            if limit >= self.least * cheapest:
                continue
            enough = (
                math.ceil(self.enough * each * (1.0 if name == "calls" else MARGIN) * 1e4) / 1e4
            )
            raise BudgetError(
                f"the budget of {limit:g} {name} is too small for one candidate: {self} take at "
                f"least {_number(self.least * cheapest)} {name}. {_number(enough)} are enough",
                limit=name,
            )

    def __str__(self) -> str:
        held_out = f", and two on each of {self.held_out} held-out rows" if self.held_out else ""
        return (
            f"{self.rows} runs of the unchanged program and at least {self.fewest} for the proposal"
            f"{held_out}"
        )


def _limits(budget: Budget, cost: RunCost) -> list[tuple[str, float, float, float]]:
    """Return name, limit, and the most and the least that a run uses of each limited currency."""
    least = cost.least
    dollars = (least.cost_usd or 0.0) * _CAUTION
    currencies = (
        ("calls", budget.calls, cost.calls, least.calls),
        ("tokens", budget.tokens, cost.tokens, least.total_tokens * _CAUTION),
        ("dollars", budget.usd, cost.usd or 0.0, dollars),
    )
    return [
        (name, limit, most, fewest) for name, limit, most, fewest in currencies if limit is not None
    ]


def _number(value: float) -> str:
    return f"{math.ceil(value)}" if value >= 10 else f"{value:.3g}"
