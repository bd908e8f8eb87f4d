"""The seam of all optimizers: ask for candidates, tell how they did."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dspex.language.programs import Program
from dspex.language.variables import Assignment
from dspex.learning.evaluation import Dataset, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be improved, as data: the program, the rows to learn from, and the seed of all choices."""

    program: Program
    train: Dataset
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Values for some variables of the program, to be tried.

    `shown` are the training rows that the candidate shows to the model: it is never scored on these. `label` says in
    a few words what it is.
    """

    label: str
    assignment: Assignment
    shown: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate and how it did; `score` is None where not one row could be scored."""

    number: int
    candidate: Candidate
    report: Report
    score: float | None


class Proposer(Protocol):
    """Decides what to try next: synchronous and pure, so that the same task and the same results ask for the same.

    Owned by one driver. `tell` gives the results of all that was asked, in the order of asking, before the next `ask`.
    """

    def ask(self, count: int) -> Sequence[Candidate]:
        """Return at most `count` candidates; none means that the search is over."""
        ...

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take note of the results."""
        ...


class Optimizer(Protocol):
    """A recipe for a search: immutable, and good for any number of tasks."""

    def start(self, task: Task) -> Proposer:
        """Begin a search.

        Raises:
            DefinitionError: the task does not suit it, such as a program without what it varies.
        """
        ...
