"""The one driver: asks an optimizer, scores its candidates, keeps the best."""

import asyncio
import math
import random
import warnings as python_warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dspex.errors import BudgetError, ConflictError, DefinitionError, DspexError
from dspex.execution.context import RunContext, current, without_run
from dspex.execution.modules import Module, Predict, module_of
from dspex.language.programs import Node, Program
from dspex.language.records.canonical import content_hash
from dspex.learning.evaluation import Backed, Dataset, Report, compare, evaluate
from dspex.learning.evaluation.evaluate import Metrics, metrics_by_name
from dspex.learning.optimizers.answering import AnsweredModel, Answers, HaltError
from dspex.learning.optimizers.estimating import Probe, estimated
from dspex.learning.optimizers.identity import check_identity, identity_of
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.limits import figure_of, figures_of
from dspex.learning.optimizers.proposer import Ask, Candidate, Estimating, Optimizer, Question, Reply, Task, Told, Trial
from dspex.learning.optimizers.recording import Recorded
from dspex.learning.optimizers.search import Estimate, Outcome, Search, Verdict
from dspex.telemetry import Event

P = TypeVar("P", bound=Module | Program)
PROBES = 3
FEW_ROWS = 5
AS_IT_IS = Candidate(label="the program as it is", assignment={})


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

    The program as it is is trial 0. A candidate is scored on rows that it does not itself show to the model. Among
    equals the earlier one wins. Each finished trial is told to the observer of `context` as a progress event.

    Raises:
        DefinitionError: the task does not suit the optimizer, the metric is broken, or no candidate could be scored.
        ConflictError: the journal belongs to another search.
        BudgetError: the budget does not suffice for one candidate.
    """
    driver = _Driver(program, train, metric, given=context or current(), search=search or Search())
    async with driver.answers:
        return await driver.run(program, optimizer)


def as_task_program(given: Module | Program) -> Program:
    """Return a program as data; of code that cannot be stored, its predictors and variables."""
    if isinstance(given, Program):
        return given
    try:
        return given.to_program()
    except DefinitionError:
        signature, children = given.contract(), []
        for path, part in given.named_modules():
            if isinstance(part, Predict):
                children.append(Node(id=path, kind="predict", signature=part.signature))
        root = Node(id="self", kind="unstored", children={"predictors": tuple(children)})
        return Program(name=signature.name, signature=signature, root=root, space=given.variables())


class _Driver:
    """One search: scores what is asked, in order. Owned by one call of `optimize`."""

    def __init__(
        self, program: Module | Program, train: Dataset, metric: Metrics, *, given: RunContext, search: Search
    ) -> None:
        if not len(train):
            raise DefinitionError("there are no training rows")
        self.module = module_of(program)
        self.train = train
        self.metric = metrics_by_name(metric)
        self.search = search
        scored = len(search.validation or train)
        self.task = Task(
            program=as_task_program(program),
            train=train,
            seed=search.seed,
            scored=min(scored, search.rows or scored),
        )
        self.journal = search.journal or MemoryJournal()
        self.answers = Answers(
            self.journal, budget=search.budget, control=search.control, concurrency=search.concurrency
        )
        self.context = without_run(given)
        self.trials: list[Trial] = []
        self.recorded: dict[int, Mapping[str, Any]] = {}
        self.estimated: Mapping[int, Mapping[str, float]] = {}
        self.warnings: list[str] = []
        self._order = list(range(len(train)))
        random.Random(search.seed).shuffle(self._order)  # noqa: S311  # which rows are scored first, the same for all

    async def run(self, program: P, optimizer: Optimizer) -> Outcome[P]:
        await self._open(optimizer)
        self._warn_of_data()
        estimate = await self._estimate(optimizer) if self.search.on_estimate is not None else None
        proposer = optimizer.start(self.task)
        await self._told([AS_IT_IS])
        while not self._is_over and (asked := proposer.ask(self.search.trials_at_once)):
            told = await self._told(asked)
            if len(told) < len(asked):
                break
            proposer.tell(told)
        if isinstance(proposer, Estimating):
            self.estimated = proposer.estimates(self.trials)
        best = self._best()
        verdict = await self._verdict(best)
        better: P = program.assign(best.candidate.assignment)  # type: ignore[assignment]  # both kinds return their own
        keeps = verdict is not None and not verdict.is_better and not self.search.insists
        return Outcome(
            program=program if keeps else better,
            original=program,
            best=best,
            trials=tuple(self.trials),
            verdict=verdict,
            estimate=estimate,
            estimated=self.estimated,
            spent=self.answers.spent,
            made=self.answers.made,
            stopped=self._stopped(),
            warnings=tuple(self.warnings),
        )

    async def _open(self, optimizer: Optimizer) -> None:
        identity = identity_of(
            self.task, self.module, self.metric, optimizer=optimizer, search=self.search, context=self.context
        )
        entries = await self.journal.entries()
        for entry in entries:
            if entry["kind"] == "begin":
                check_identity(entry, identity)
            if entry["kind"] in {"answer", "lost"}:
                self.answers.remember(entry)
            if entry["kind"] == "trial":
                self.recorded[entry["number"]] = entry
        if not entries:
            await self.journal.append({"kind": "begin", "identity": identity})
        self.search.budget.begin(self.answers.elapsed)

    def _warn_of_data(self) -> None:
        outputs = [name for name in self.task.program.signature.output_fields if name in self.train.fields]
        for name in outputs:
            if len(self.train) > 1 and len(set(map(repr, self.train.column(name)))) == 1:
                self._warn(f"every training row has the same {name!r}: nothing can be learned about it")
        for label, rows in (("validation", self.search.validation), ("test", self.search.test)):
            if rows is None:
                continue
            if not len(rows):
                raise DefinitionError(f"the {label} split has no rows")
            if len(rows) < FEW_ROWS:
                self._warn(f"{len(rows)} rows of the {label} split say next to nothing")
            inputs = [name for name in self.task.program.signature.input_fields if name in rows.fields]
            if twice := self.train.duplicates(rows, fields=inputs):
                self._warn(
                    f"{len(twice)} rows of the {label} split are training rows too (the first: row {twice[0][1]})"
                )
        if len(self.train) < FEW_ROWS:
            self._warn(f"{len(self.train)} training rows are too few to choose by")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        python_warnings.warn(text, UserWarning, stacklevel=5)

    async def _estimate(self, optimizer: Optimizer) -> Estimate:
        rows = self._rows(AS_IT_IS)
        noted = Recorded(self._module(AS_IT_IS))
        report = await self._evaluated(AS_IT_IS, rows[:PROBES], module=noted, concurrency=1)
        if self.answers.halted is not None:
            raise self.answers.halted
        calls = [noted.calls.get(row.trace_id, []) for row in report.rows]
        probe = Probe(module=noted.module, report=report, calls=calls, context=self.context)
        made = estimated(self.task, optimizer, probe, rows=len(rows), search=self.search)
        if self.search.on_estimate is not None:
            self.search.on_estimate(made)
        return made

    async def _told(self, asked: Sequence[Ask]) -> list[Told]:
        """Carry out what was asked, side by side, and take note in the order of asking up to what was cut short."""
        first = len(self.trials)
        numbers = iter(range(first, first + len(asked)))
        work = [self._reply(item) if isinstance(item, Question) else self._trial(item, next(numbers)) for item in asked]
        told: list[Told] = []
        for found in await _all([self.answers.in_time(item) for item in work]):
            if found is None:
                break
            if isinstance(found, Trial):
                await self._note(found)
            told.append(found)
        return told

    async def _reply(self, question: Question) -> Reply | None:
        try:
            prediction = await question.module.acall(self._context(question.salt), **question.inputs)
        except HaltError:
            return None
        except DspexError as error:
            return Reply(question=question, outputs=None, error=f"{type(error).__name__}: {error}")
        return Reply(question=question, outputs=prediction.to_dict())

    async def _trial(self, candidate: Candidate, number: int) -> Trial | None:
        module = self._module(candidate)
        recorded = Recorded(module) if candidate.is_traced else None
        report = await self._evaluated(candidate, self._rows(candidate), module=recorded or module)
        if any(row.error is not None and row.error.startswith("HaltError:") for row in report.rows):
            return None
        entry = self.recorded.get(number)
        if entry is not None and entry["candidate"] != _hash_of(candidate):
            raise ConflictError(f"trial {number} in the journal is another one than was asked for now")
        figures = dict(entry["figures"]) if entry is not None else figures_of(report)
        calls = [recorded.calls.get(row.trace_id, []) for row in report.rows] if recorded is not None else []
        score = report.mean if report.scored else None
        return Trial(
            number=number,
            candidate=candidate,
            report=report,
            score=score,
            figures={name: math.nan if value is None else value for name, value in figures.items()},
            calls=calls,
        )

    async def _evaluated(
        self, candidate: Candidate, rows: Dataset, *, module: Module | None = None, concurrency: int | None = None
    ) -> Report:
        return await evaluate(
            module or self._module(candidate),
            rows,
            self.metric,
            context=self._context(candidate.salt),
            concurrency=concurrency or self.search.concurrency,
        )

    def _module(self, candidate: Candidate) -> Module:
        made = self.module.assign(candidate.assignment)
        for _, part in made.named_modules():
            if isinstance(part, Backed) and candidate.temperature is not None:
                part.temperature = candidate.temperature
            if not isinstance(part, Predict):
                continue
            if part.model is not None and not isinstance(part.model, str):
                part.model = AnsweredModel(part.model, self.answers, candidate.salt)
            if candidate.temperature is not None:
                part.settings = {**part.settings, "temperature": candidate.temperature}
        return made

    def _context(self, salt: str) -> RunContext:
        given, answers = self.context, self.answers
        resolve = given.models
        return replace(
            given,
            model=None if given.model is None else AnsweredModel(given.model, answers, salt),
            models=None if resolve is None else lambda text: AnsweredModel(resolve(text), answers, salt),
        )

    def _rows(self, candidate: Candidate) -> Dataset:
        rows = self._all_rows(candidate)
        if candidate.batch is None or candidate.batch[0] >= len(rows):
            return rows
        count, draw = candidate.batch
        order = list(range(len(rows)))
        random.Random(draw).shuffle(order)  # noqa: S311  # a larger batch of the same draw begins with the smaller one
        return rows.pick(sorted(order[:count]))

    def _all_rows(self, candidate: Candidate) -> Dataset:
        if candidate.rows is not None:
            return self.train.pick(candidate.rows)
        if self.search.validation is not None:
            return self.search.validation if self.search.rows is None else self.search.validation[: self.search.rows]
        unseen = [index for index in self._order if index not in candidate.shown]
        if not unseen:
            raise DefinitionError(f"{candidate.label} shows every training row, so none is left to score it on")
        return self.train.pick(unseen[: self.search.rows])

    async def _note(self, trial: Trial) -> None:
        self.trials.append(trial)
        if trial.number not in self.recorded:
            await self.journal.append(
                {
                    "kind": "trial",
                    "number": trial.number,
                    "candidate": _hash_of(trial.candidate),
                    "label": trial.candidate.label,
                    "score": trial.score,
                    "rows": trial.report.scored,
                    "failed": trial.report.failed,
                    "calls": trial.report.usage.calls,
                    "figures": {name: value if math.isfinite(value) else None for name, value in trial.figures.items()},
                }
            )
        best = self._best() if any(known.score is not None for known in self.trials) else None
        score = "no score" if trial.score is None else f"{trial.score:.2f}"
        attributes: dict[str, object] = {
            "trial": trial.number,
            "score": trial.score,
            "best": None if best is None else best.score,
            "calls": sum(known.report.usage.calls for known in self.trials),
            "spent_usd": self.answers.spent.cost_usd,
        }
        message = f"trial {trial.number}: {trial.candidate.label}: {score}"
        self.context.say(Event(name="progress", message=message, attributes=attributes))
        if self.search.on_trial is not None:
            self.search.on_trial(trial)

    def _best(self) -> Trial:
        if not self.trials and self.answers.halted is not None:
            raise BudgetError(f"the budget does not suffice for one candidate: {self.answers.halted.message}")
        scored = [trial for trial in self.trials if trial.score is not None and trial.candidate.is_final]
        if not scored:
            errors = [row.error for trial in self.trials for row in trial.report.rows if row.error]
            because = f"; the first error was: {errors[0]}" if errors else ""
            raise DefinitionError(f"none of {len(self.trials)} candidates could be scored{because}")
        limits = self.search.limits()
        known = {trial.number: {**trial.figures, **self.estimated.get(trial.number, {})} for trial in scored}
        goal = self.search.maximize or next(iter(self.metric))

        def merit(trial: Trial) -> tuple[int, float, int]:
            figures = known[trial.number]
            value = figure_of(figures, goal)
            within = sum(limit.holds(figures) for limit in limits)
            return within, -math.inf if math.isnan(value) else value, -trial.number

        return max(scored, key=merit)

    async def _verdict(self, best: Trial) -> Verdict | None:
        test = self.search.test
        if test is None or self.answers.halted is not None or self.search.control.is_cancelled:
            return None
        before = await self._evaluated(AS_IT_IS, test)
        after = await self._evaluated(best.candidate, test)
        if self.answers.halted is not None or not (before.scored and after.scored):
            return None
        return Verdict(before=before, after=after, comparison=compare(after, before, seed=self.search.seed))

    @property
    def _is_over(self) -> bool:
        return self.answers.halted is not None or self.search.control.is_cancelled

    def _stopped(self) -> str | None:
        if self.answers.halted is not None:
            return f"budget: {self.answers.halted.message}"
        return "cancelled" if self.search.control.is_cancelled else None


async def _all(work: list[Any]) -> list[Any]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from None
    return [task.result() for task in tasks]


def _hash_of(candidate: Candidate) -> str:
    rows = None if candidate.rows is None else list(candidate.rows)
    drawn = [candidate.batch, candidate.temperature, candidate.salt]
    return content_hash([_plain(candidate.assignment), sorted(candidate.shown), rows, drawn])


def _plain(value: Any) -> Any:  # noqa: ANN401  # any value, as JSON
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)
