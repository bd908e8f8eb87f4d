"""The seam of all optimizers: ask for candidates, tell how they did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from dspex.execution.modules import Module
from dspex.language.programs import Program
from dspex.language.variables import Assignment
from dspex.learning.evaluation import Dataset, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be improved, as data: the program, the rows to learn from, and the seed of all choices.

    A full score takes about `scored` runs; the number of training rows where it is not given.
    """

    program: Program
    train: Dataset
    seed: int = 0
    scored: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one predictor in a run: its path, inputs and outputs. It may serve as a demonstration."""

    path: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Values for some variables of the program, to be tried.

    Args:
        label: in a few words, what it is.
        assignment: the values.
        shown: training rows that it shows to the model; it is never scored on these.
        rows: the training rows to score it on instead of those that the search scores on.
        batch: (count, draw): score on this many of the rows only, drawn at random by the number `draw`; a larger batch
            of the same draw holds a smaller one.
        temperature: of all predictors, in place of their own; for a teacher that is to answer differently.
        salt: sets its calls apart from the same calls of other candidates, to draw again at a temperature above 0.
        is_final: whether it may be the outcome of the search; a teacher, or a score on a few rows, may not.
        is_traced: whether the trial is to hold the calls of each predictor.
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
    """A candidate and how it did; `score` is None where not one row could be scored.

    A failed row counts as the worst one in `score` and in the metrics' figures. `figures` are what objectives and
    limits speak of: the mean of each metric, the share of rows that `failed`, `usd` and `tokens` for an answered row,
    `p50` and `p95` in seconds. `calls` are those of each row, where the candidate asked for them. `on_error` is the
    score of a failed row, where the search says one.
    """

    number: int
    candidate: Candidate
    report: Report
    score: float | None
    figures: Mapping[str, float] = field(default_factory=dict)
    calls: Sequence[Sequence[Call]] = ()
    on_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Inputs for a module of the optimizer's own, such as one that writes instructions; runs on the search's model."""

    module: Module
    inputs: Mapping[str, Any]
    salt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What became of a question: outputs, or an error."""

    question: Question
    outputs: Mapping[str, Any] | None
    error: str | None = None


Ask = Candidate | Question
Told = Trial | Reply


class Proposer(Protocol):
    """Decides what to try next: synchronous and pure, so that the same task and the same results ask for the same.

    Owned by one driver. `tell` gives the results of all that was asked, in the order of asking, before the next `ask`.
    """

    def ask(self, count: int) -> Sequence[Ask]:
        """Return at most `count` candidates or questions; none means that the search is over."""
        ...

    def tell(self, results: Sequence[Told]) -> None:
        """Take note of the results."""
        ...


@runtime_checkable
class Estimating(Protocol):
    """A proposer that may say more of the figures of a trial than was measured on its own rows.

    The driver decides by it at the end: among many scores on few rows the highest one is too high by chance.
    """

    def estimates(self, trials: Sequence[Trial]) -> Mapping[int, Mapping[str, float]]:
        """Return estimates by the number of a trial and the name of a figure; what it leaves out stands as measured."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What an optimizer adds to a program at most: demonstrations shown at once, and questions for instructions."""

    demonstrations: int = 0
    questions: int = 0


@runtime_checkable
class Adding(Protocol):
    """An optimizer that says what it adds, so that an estimate counts it; `runs` counts its questions too."""

    def adds(self, task: Task) -> Additions:
        """Return the most that one candidate shows, and that the whole search asks."""
        ...


@runtime_checkable
class Aiming(Protocol):
    """An optimizer that looks for figures of its own choice; the driver checks that there are such."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Return the figures, with a leading minus where less is better; none for the first metric."""
        ...


class Optimizer(Protocol):
    """A recipe for a search: immutable, and good for any number of tasks."""

    def start(self, task: Task) -> Proposer:
        """Begin a search.

        Raises:
            DefinitionError: the task does not suit it, such as a program without what it varies.
        """
        ...

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run, where a full score takes `rows` runs."""
        ...
