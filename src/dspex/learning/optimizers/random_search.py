"""A random search over sets of bootstrapped demonstrations."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dspex.argument_values import Count, CountFromTwo, CountOrZero
from dspex.arguments import checks_names
from dspex.learning.optimizers.bootstrap import BootstrapFewShot, BootstrapWalk
from dspex.learning.optimizers.options import TRIALS, OptimizerEntry, whole_number
from dspex.learning.optimizers.proposer import Additions, Ask, Proposer, Result, Task, Trial


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSearch:
    """Tries many sets of bootstrapped demonstrations, each from the rows in another order.

    Besides `candidates` shuffles with fewer demonstrations, it tries labelled rows alone, and the
    rows in their order. The unchanged program, which the driver scores first, is a candidate too.

    Args:
        bootstrap: how each set is created.
        candidates: the number of shuffled walks.
        first_rows: score each set on this many rows only, and the best of every `heat` sets on all
            rows; by default every set is scored on all rows.
        heat: the number of sets that compete for a full score; see `first_rows`.
    """

    bootstrap: BootstrapFewShot = field(default_factory=BootstrapFewShot)
    candidates: CountOrZero = 16
    first_rows: Count | None = None
    heat: CountFromTwo = 3

    def start(self, task: Task) -> Proposer:
        """Begin.

        Raises:
            DefinitionError: a number is out of range.
        """
        walks = [
            (f"bootstrapped set {seed}", self.walk(task, seed))
            for seed in range(-2, self.candidates)
        ]
        return (
            _Walks(walks)
            if self.first_rows is None
            else _Heats(walks, rows=self.first_rows, size=self.heat)
        )

    def walk(self, task: Task, seed: int) -> BootstrapWalk:
        """Return the walk of one seed.

        Seed -2 uses labelled demonstrations only, -1 keeps the order of the rows.
        """
        order = list(range(len(task.train)))
        if seed == -2:
            return BootstrapWalk(replace(self.bootstrap, max_bootstrapped=0), task, order=order)
        if seed == -1:
            return BootstrapWalk(self.bootstrap, task, order=order)
        rng = random.Random(f"{task.seed}/{seed}")
        rng.shuffle(order)
        size = rng.randint(1, max(1, self.bootstrap.max_bootstrapped))
        return BootstrapWalk(replace(self.bootstrap, max_bootstrapped=size), task, order=order)

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run."""
        return (self.candidates + 1) * self.bootstrap.rounds * len(task.train) + (
            self.candidates + 2
        ) * rows

    def additions(self, task: Task) -> Additions:
        """Return how many demonstrations a set has at most."""
        return self.bootstrap.additions(task)


ENTRY = OptimizerEntry(
    create=RandomSearch,
    options={
        "candidates": TRIALS,
        "first_rows": whole_number(1, 1_000_000, optional=True),
        "heat": whole_number(1, 1000),
    },
)


class _Heats:
    """Scores the sets of one heat on few rows, and the best of them on all."""

    def __init__(self, walks: Sequence[tuple[str, BootstrapWalk]], *, rows: int, size: int) -> None:
        self._walks = list(walks)
        self._rows = rows
        self._size = size
        self._heat: list[Trial] = []

    def ask(self, count: int) -> Sequence[Ask]:
        if len(self._heat) == self._size or (self._heat and not self._walks):
            best = max(self._heat, key=lambda trial: (_worth(trial), -trial.number)).candidate
            self._heat = []
            return [replace(best, label=best.label.partition(" on ")[0], batch=None, is_final=True)]
        if not self._walks:
            return ()
        label, walk = self._walks[0]
        if candidates := walk.ask(count):
            return candidates
        self._walks.pop(0)
        candidate = walk.candidate(f"{label} on {self._rows} rows")
        return [replace(candidate, batch=(self._rows, 0), is_final=False)]

    def tell(self, results: Sequence[Result]) -> None:
        for trial in results:
            if not isinstance(trial, Trial) or trial.candidate.is_final:
                continue
            if trial.candidate.batch is not None:
                self._heat.append(trial)
            elif self._walks:
                self._walks[0][1].tell([trial])


def _worth(trial: Trial) -> float:
    """Return the score; minus infinity if no row could be scored."""
    return -math.inf if trial.score is None else trial.score


class _Walks:
    def __init__(self, walks: Sequence[tuple[str, BootstrapWalk]]) -> None:
        self._walks = list(walks)

    def ask(self, count: int) -> Sequence[Ask]:
        if not self._walks:
            return ()
        label, walk = self._walks[0]
        if candidates := walk.ask(count):
            return candidates
        self._walks.pop(0)
        return [walk.candidate(label)]

    def tell(self, results: Sequence[Result]) -> None:
        if self._walks:
            self._walks[0][1].tell(results)
