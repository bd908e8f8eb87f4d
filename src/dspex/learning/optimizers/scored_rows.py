"""The rows that the candidates of a search are scored on."""

import random
from collections.abc import Callable

from dspex.learning.evaluation import Dataset
from dspex.learning.optimizers.proposer import Candidate
from dspex.learning.optimizers.search import Search


class ScoredRows:
    """Picks the rows for each candidate: those of the search, or training rows it does not show."""

    def __init__(self, train: Dataset, search: Search, warn: Callable[[str], None]) -> None:
        """Take the training rows and the settings of the search."""
        self._train = train
        self._search = search
        self._warn = warn
        self._order = list(range(len(train)))  # which rows are scored first, the same for all
        random.Random(search.seed).shuffle(self._order)

    def of(self, candidate: Candidate) -> Dataset:
        """Return the rows to score `candidate` on; empty if it shows every training row."""
        rows = self._all_rows(candidate)
        if candidate.batch is None or candidate.batch[0] >= len(rows):
            return rows
        count, draw = candidate.batch
        order = list(range(len(rows)))
        random.Random(draw).shuffle(order)  # a larger batch of a draw begins with the smaller one
        return rows.pick(sorted(order[:count]))

    def _all_rows(self, candidate: Candidate) -> Dataset:
        search = self._search
        if candidate.rows is not None:
            return self._train.pick(candidate.rows)
        if search.validation is not None:
            if search.rows is None or search.rows >= len(search.validation):
                return search.validation
            return search.validation.sample(search.rows, seed=search.seed)
        unseen = [index for index in self._order if index not in candidate.shown]
        if not unseen:
            self._warn(
                f"{candidate.label} shows every training row, so no row is left to score it on; "
                "add rows"
            )
        return self._train.pick(unseen[: search.rows])
