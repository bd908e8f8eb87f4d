"""An optimizer for the test: it shows the first row."""

from collections.abc import Sequence
from dataclasses import dataclass

from dspex.learning.optimizers.options import TRIALS, OptimizerEntry
from dspex.learning.optimizers.proposer import Candidate, Result, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTry:
    """Tries one text, as often as it is told to."""

    times: int = 1

    def start(self, task: Task) -> "_Tries":
        """Begin."""
        return _Tries(self.times)

    def runs(self, task: Task, rows: int) -> int:
        """Return the largest number of runs."""
        return self.times * rows


class _Tries:
    def __init__(self, times: int) -> None:
        self._left = times

    def ask(self, count: int) -> Sequence[Candidate]:
        if not self._left:
            return ()
        self._left -= 1
        return [Candidate(label="one try", assignment={"self.instructions": "Be exact."})]

    def tell(self, results: Sequence[Result]) -> None:
        pass


ENTRY = OptimizerEntry(create=OneTry, options={"times": TRIALS})
