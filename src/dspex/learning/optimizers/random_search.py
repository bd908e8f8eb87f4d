"""Many sets of bootstrapped demonstrations, of which the best is kept."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dspex.learning.optimizers.bootstrap import BootstrapFewShot, Bootstrapping
from dspex.learning.optimizers.proposer import Ask, Proposer, Task, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSearch:
    """Tries labelled rows alone, the rows in their order, and `candidates` shuffled walks with fewer demonstrations.

    The program as it is, which the driver scores first, is a candidate too.

    Args:
        bootstrap: how each set is made.
        candidates: how many shuffled walks.
    """

    bootstrap: BootstrapFewShot = field(default_factory=BootstrapFewShot)
    candidates: int = 16

    def start(self, task: Task) -> Proposer:
        """Begin."""
        return _Walks([(f"bootstrapped set {seed}", self.walk(task, seed)) for seed in range(-2, self.candidates)])

    def walk(self, task: Task, seed: int) -> Bootstrapping:
        """Return the walk of one seed: -2 makes labelled demonstrations only, -1 keeps the order of the rows."""
        order = list(range(len(task.train)))
        if seed == -2:
            return Bootstrapping(replace(self.bootstrap, max_bootstrapped=0), task, order=order)
        if seed == -1:
            return Bootstrapping(self.bootstrap, task, order=order)
        rng = random.Random(f"{task.seed}/{seed}")  # noqa: S311
        rng.shuffle(order)
        size = rng.randint(1, max(1, self.bootstrap.max_bootstrapped))
        return Bootstrapping(replace(self.bootstrap, max_bootstrapped=size), task, order=order)

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run."""
        return (self.candidates + 1) * self.bootstrap.rounds * len(task.train) + (self.candidates + 2) * rows


class _Walks:
    def __init__(self, walks: Sequence[tuple[str, Bootstrapping]]) -> None:
        self._walks = list(walks)

    def ask(self, count: int) -> Sequence[Ask]:
        if not self._walks:
            return ()
        label, walk = self._walks[0]
        if asked := walk.ask(count):
            return asked
        self._walks.pop(0)
        return [walk.candidate(label)]

    def tell(self, results: Sequence[Told]) -> None:
        if self._walks:
            self._walks[0][1].tell(results)
