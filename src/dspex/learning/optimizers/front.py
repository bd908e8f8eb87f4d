"""The trials of a search that no other one beats."""

from collections.abc import Iterable, Sequence
from importlib import import_module

from dspex.learning.optimizers.proposer import Trial


class Front(list[Trial]):
    """Undominated trials, the best in the first of the `objectives` first."""

    def __init__(self, trials: Iterable[Trial], objectives: Sequence[str]) -> None:
        """Take the trials, and the figures that they were compared in."""
        super().__init__(trials)
        self.objectives = tuple(objectives)

    def _repr_html_(self) -> str:
        markup: str = import_module("dspex.learning.optimizers.representation").front_html(self)
        return markup
