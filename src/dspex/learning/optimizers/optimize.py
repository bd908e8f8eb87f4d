"""The one driver: asks an optimizer, scores its candidates, keeps the best."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dspex.errors import DefinitionError
from dspex.execution.context import RunContext, current
from dspex.execution.modules import Module, module_of
from dspex.language.programs import Program
from dspex.learning.evaluation import Dataset, evaluate
from dspex.learning.evaluation.evaluate import Metrics
from dspex.learning.optimizers.proposer import Candidate, Optimizer, Task, Trial
from dspex.telemetry import Event

P = TypeVar("P", bound=Module | Program)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How a search is carried out.

    Args:
        rows: score each candidate on this many rows that it does not show itself; on all of these by default.
        validation: rows to score on instead of the training rows.
        concurrency: calls under way at once.
        seed: of all choices; the same seed and the same replies end with the same program.
        on_trial: told of each trial as it is finished.
    """

    rows: int | None = None
    validation: Dataset | None = None
    concurrency: int = 8
    seed: int = 0
    on_trial: Callable[[Trial], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[P]):
    """What a search found: the better program, of the kind that was given, and every trial in the order of asking."""

    program: P
    best: Trial
    trials: tuple[Trial, ...] = field(default_factory=tuple)

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each trial: number, label, score, rows scored, rows failed and calls made."""
        return [
            {
                "trial": trial.number,
                "label": trial.candidate.label,
                "score": trial.score,
                "rows": trial.report.scored,
                "failed": trial.report.failed,
                "calls": trial.report.usage.calls,
            }
            for trial in self.trials
        ]


async def optimize(
    program: P,
    optimizer: Optimizer,
    *,
    train: Dataset,
    metric: Metrics,
    context: RunContext | None = None,
    search: Search | None = None,
) -> Outcome[P]:
    """Try what `optimizer` proposes and return the best program found.

    A candidate is scored on rows that it does not itself show to the model. Among equals the earlier one wins. Each
    finished trial is told to the observer of `context` as a progress event.

    Raises:
        DefinitionError: the task does not suit the optimizer, the metric is broken, or no candidate could be scored.
    """
    driver = _Driver(module_of(program), train, metric, given=context or current(), search=search or Search())
    task = Task(program=_as_program(program), train=train, seed=driver.search.seed)
    await driver.run(optimizer, task)
    best = _best(driver.trials)
    better: P = program.assign(best.candidate.assignment)  # type: ignore[assignment]  # both kinds return their own
    return Outcome(program=better, best=best, trials=tuple(driver.trials))


def _as_program(given: Module | Program) -> Program:
    return given if isinstance(given, Program) else given.to_program()


def _best(trials: Sequence[Trial]) -> Trial:
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        errors = [row.error for trial in trials for row in trial.report.rows if row.error]
        because = f"; the first error was: {errors[0]}" if errors else ""
        raise DefinitionError(f"none of {len(trials)} candidates could be scored{because}")
    return max(scored, key=lambda trial: (trial.score or 0.0, -trial.number))


class _Driver:
    """One search: scores what is asked, in order. Owned by one call of `optimize`."""

    def __init__(self, module: Module, train: Dataset, metric: Metrics, *, given: RunContext, search: Search) -> None:
        self.module = module
        self.train = train
        self.metric = metric
        self.context = given
        self.search = search
        self.trials: list[Trial] = []
        order = list(range(len(train)))
        random.Random(search.seed).shuffle(order)  # noqa: S311  # which rows are scored first, the same for all
        self._order = order

    async def run(self, optimizer: Optimizer, task: Task) -> None:
        proposer = optimizer.start(task)
        while candidates := proposer.ask(1):
            told = [await self._trial(candidate) for candidate in candidates]
            proposer.tell(told)

    async def _trial(self, candidate: Candidate) -> Trial:
        report = await evaluate(
            self.module.assign(candidate.assignment),
            self._rows(candidate),
            self.metric,
            context=self.context,
            concurrency=self.search.concurrency,
        )
        score = report.mean if report.scored else None
        trial = Trial(number=len(self.trials), candidate=candidate, report=report, score=score)
        self.trials.append(trial)
        self._say(trial)
        return trial

    def _rows(self, candidate: Candidate) -> Dataset:
        if self.search.validation is not None:
            return self.search.validation if self.search.rows is None else self.search.validation[: self.search.rows]
        unseen = [index for index in self._order if index not in candidate.shown]
        if not unseen:
            raise DefinitionError(f"{candidate.label} shows every training row, so none is left to score it on")
        return self.train.pick(unseen[: self.search.rows])

    def _say(self, trial: Trial) -> None:
        best = _best(self.trials) if any(known.score is not None for known in self.trials) else None
        attributes: dict[str, object] = {
            "trial": trial.number,
            "score": trial.score,
            "best": None if best is None else best.score,
            "calls": sum(known.report.usage.calls for known in self.trials),
        }
        score = "no score" if trial.score is None else f"{trial.score:.2f}"
        message = f"trial {trial.number}: {trial.candidate.label}: {score}"
        self.context.say(Event(name="progress", message=message, attributes=attributes))
        if self.search.on_trial is not None:
            self.search.on_trial(trial)
