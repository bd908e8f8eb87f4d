"""The protocol of all optimizers: ask for candidates, then tell their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from dspex.execution.modules import Module
from dspex.language.programs import Program
from dspex.language.variables import Assignment
from dspex.learning.evaluation import Dataset, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The input of an optimizer, as data: the program, the training rows and the seed.

    A full score takes about `scored` runs; by default, as many as there are training rows.
    """

    program: Program
    train: Dataset
    seed: int = 0
    scored: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one predictor in a run: its path, inputs and outputs.

    It may serve as a demonstration.
    """

    path: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Values for some variables of the program, to be scored.

    Args:
        label: a short description.
        assignment: the values.
        shown: training rows that the candidate shows to the model; it is never scored on these.
        rows: training rows to score on instead of the search's own.
        batch: (count, draw): score on `count` random rows only; a larger batch with the same `draw`
            contains the smaller one.
        temperature: overrides the temperature of all predictors, for a teacher that should vary its
            answers.
        salt: separates its calls from equal calls of other candidates, to sample again above
            temperature 0.
        is_final: whether it may win the search; a teacher or a score on a few rows may not.
        is_traced: whether the trial records the calls of each predictor.
    """

    label: str
    assignment: Assignment
    shown: frozenset[int] = field(default_factory=frozenset)
    rows: tuple[int, ...] | None = None
    batch: tuple[int, int] | None = None
    temperature: float | None = None
    salt: str = ""
    is_final: bool = True
    is_traced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate with its results; `score` is None if no row could be scored.

    A failed row counts as the worst row in `score` and in the metrics' figures. Objectives and
    limits refer to `figures`: the mean of each metric, the share of `failed` rows, `usd` and
    `tokens` per scored row, `p50` and `p95` in seconds. `calls` holds the calls of each row if the
    candidate is traced. `on_error` is the score of a failed row, if the search sets one.
    """

    number: int
    candidate: Candidate
    report: Report
    score: float | None
    figures: Mapping[str, float] = field(default_factory=dict)
    calls: Sequence[Sequence[Call]] = ()
    on_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuestion:
    """A run of an optimizer's module, such as one that writes instructions.

    It uses the models of the search.
    """

    module: Module
    inputs: Mapping[str, Any]
    salt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReply:
    """The reply to a question: outputs or an error."""

    question: SearchQuestion
    outputs: Mapping[str, Any] | None
    error: str | None = None


Ask = Candidate | SearchQuestion
Result = Trial | SearchReply


class Proposer(Protocol):
    """Decides what to try next; the same task and results lead to the same candidates.

    Synchronous and pure.

    Owned by one driver. Before the next `ask`, `tell` passes the results of everything asked, in
    the same order.
    """

    def ask(self, count: int) -> Sequence[Ask]:
        """Return at most `count` candidates or questions; an empty sequence ends the search."""
        ...

    def tell(self, results: Sequence[Result]) -> None:
        """Record the results."""
        ...


@runtime_checkable
class EstimateProvider(Protocol):
    """A proposer that estimates the figures of a trial from more than its own rows.

    The driver picks the winner by these estimates: of many scores on few rows, the highest is too
    high by chance.
    """

    def estimates(self, trials: Sequence[Trial]) -> Mapping[int, Mapping[str, float]]:
        """Return estimates by trial and figure; other figures keep their measured value."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """The most that an optimizer adds: demonstrations in a prompt, and questions."""

    demonstrations: int = 0
    questions: int = 0


@runtime_checkable
class AdditionsProvider(Protocol):
    """An optimizer that reports its additions for the estimate; `runs` counts its questions too."""

    def additions(self, task: Task) -> Additions:
        """Return the most demonstrations in one candidate and the most questions in the search."""
        ...


@runtime_checkable
class ObjectiveProvider(Protocol):
    """An optimizer with its own objectives; the driver checks that these figures exist."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Return the figures (a leading minus minimizes); an empty tuple means the first metric."""
        ...


class Optimizer(Protocol):
    """The configuration of a search: immutable and reusable for any number of tasks."""

    def start(self, task: Task) -> Proposer:
        """Begin a search.

        Raises:
            DefinitionError: the task does not suit it, such as a program without anything that it
            varies.
        """
        ...

    def runs(self, task: Task, rows: int) -> int:
        """Return the largest number of program runs, if a full score takes `rows` runs."""
        ...
