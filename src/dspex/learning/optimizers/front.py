"""The trials of a search that no other one beats."""

from collections.abc import Iterable, Sequence

from dspex.learning.optimizers.proposer import Trial
from dspex.notebook import lazy_html


class Front(list[Trial]):
    """Undominated trials, the best in the first of the `objectives` first."""

    def __init__(self, trials: Iterable[Trial], objectives: Sequence[str]) -> None:
        """Take the trials, and the figures that they were compared in."""
        super().__init__(trials)
        self.objectives = tuple(objectives)

    _repr_html_ = lazy_html("dspex.learning.optimizers.representation:front_html")
