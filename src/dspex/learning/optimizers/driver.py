"""The one driver: asks an optimizer, scores its candidates, keeps the best."""

import asyncio
import math
import random
import warnings as python_warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dspex.errors import BudgetError, ConflictError, DefinitionError, DspexError, ExecutionError, VariableError
from dspex.execution.context import RunContext, current, without_run
from dspex.execution.modules import Module, Predict, module_of
from dspex.language.programs import Program
from dspex.language.records.canonical import content_hash
from dspex.learning.evaluation import Backed, Dataset, Report, Row, evaluate
from dspex.learning.evaluation.evaluate import Metrics, metrics_by_name
from dspex.learning.optimizers.answering import AnsweredModel, Answers, Cut, HaltError
from dspex.learning.optimizers.doubts import doubts, failures, missed
from dspex.learning.optimizers.estimating import Probe, estimated
from dspex.learning.optimizers.identity import check_identity, identity_of
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.limits import front
from dspex.learning.optimizers.proposer import (
    Aiming,
    Ask,
    Candidate,
    Estimating,
    Optimizer,
    Proposer,
    Question,
    Reply,
    Task,
    Told,
    Trial,
)
from dspex.learning.optimizers.recording import Recorded
from dspex.learning.optimizers.refusing import check_models, check_optimizer, check_splits
from dspex.learning.optimizers.reserving import Reserve
from dspex.learning.optimizers.search import Estimate, Outcome, Search
from dspex.learning.optimizers.standing import as_data
from dspex.learning.optimizers.verdict import Verdict, judge
from dspex.telemetry import Event

P = TypeVar("P", bound=Module | Program)
PROBES = 3
TIMES = ("p50", "p95")  # as they were measured in an earlier life; everything else comes from the answers
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
        ConfigurationError: no model is set, or one that may be chosen cannot be opened.
        ConflictError: the journal belongs to another search.
        BudgetError: the budget does not suffice for one candidate.
        ExecutionError: it was cancelled before one candidate was scored.
    """
    driver = _Driver(program, train, metric, given=context or current(), search=search or Search())
    try:
        async with driver.answers:
            return await driver.run(program, optimizer)
    finally:
        driver.reserve.release()


class _Driver:
    """One search: scores what is asked, in order. Owned by one call of `optimize`."""

    def __init__(
        self, program: Module | Program, train: Dataset, metric: Metrics, *, given: RunContext, search: Search
    ) -> None:
        check_splits(train, search)
        self.module = module_of(program)
        self.train = train
        self.metric = metrics_by_name(metric)
        self.search = search
        scored = len(search.validation or train)
        self.task = Task(
            program=as_data(program),
            train=train,
            seed=search.seed,
            scored=min(scored, search.rows or scored),
        )
        self.goal = search.goal(list(self.metric))
        self.reserve = Reserve(
            search.budget, len(search.test or ()), most=0.5 if search.insists else 1.0, at_once=search.concurrency
        )
        self.journal = search.journal or MemoryJournal()
        self.answers = Answers(
            self.journal, budget=search.budget, control=search.control, concurrency=search.concurrency
        )
        self.context = without_run(given)
        self.trials: list[Trial] = []
        self.aims: tuple[str, ...] = ()
        self.ahead: list[Trial] = []
        self.recorded: dict[int, Mapping[str, Any]] = {}
        self.estimated: Mapping[int, Mapping[str, float]] = {}
        self.warnings: list[str] = []
        self._order = list(range(len(train)))
        random.Random(search.seed).shuffle(self._order)  # noqa: S311  # which rows are scored first, the same for all

    async def run(self, program: P, optimizer: Optimizer) -> Outcome[P]:
        check_optimizer(optimizer)
        check_models(self.task.program.space, self.context)
        self.aims = optimizer.objectives if isinstance(optimizer, Aiming) else ()
        self.goal.check_known(self.aims)
        proposer = optimizer.start(self.task)  # what does not suit it is said before anything is spent
        await self._open(optimizer)
        for text in (*doubts(self.task, validation=self.search.validation, test=self.search.test), *self._misled()):
            self._warn(text)
        estimate = await self._estimate(optimizer)
        await self._searched(proposer)
        stopped = self._stopped()
        self.reserve.release()
        best = self._best()
        unmet = self._unmet(best)
        verdict = await self._verdict(best, unmet)
        self._warn_of_failures(best, verdict if isinstance(verdict, Verdict) else None)
        kept = self._kept(best, verdict, unmet)
        better: P = program.assign(best.candidate.assignment)  # type: ignore[assignment]  # both kinds return their own
        return Outcome(
            program=program if kept is not None or not best.candidate.assignment else better,
            original=program,
            best=best,
            trials=tuple(self.trials),
            verdict=verdict if isinstance(verdict, Verdict) else None,
            unmet=tuple(unmet),
            kept=kept,
            objective=self.goal.objective,
            estimate=estimate,
            estimated=self.estimated,
            spent=self.answers.spent,
            made=self.answers.made,
            stopped=stopped or self._stopped(),
            warnings=tuple(self.warnings),
        )

    async def _searched(self, proposer: Proposer) -> None:
        await self._told([AS_IT_IS])
        if self.trials:
            self._check_measured(self.trials[0].report)
        self.reserve.update(self.trials)
        while not self._is_over and (asked := proposer.ask(self.search.trials_at_once)):
            told = await self._told(asked)
            if len(told) < len(asked):
                break
            proposer.tell(told)
            self.reserve.update(self.trials)
        if isinstance(proposer, Estimating):
            self.estimated = proposer.estimates(self.trials)

    def _check_measured(self, report: Report) -> None:
        """Say at once where the objective or a limit cannot be measured: the rest would be spent for nothing."""
        if not report.scored or not (lacking := self.goal.unmeasured(self.goal.figures(report), besides=self.aims)):
            return
        why = " (no price is known)" if "usd" in lacking else ""
        said = f"{', '.join(map(repr, lacking))} cannot be measured for the program as it is{why}"
        space = self.task.program.space
        if not any(path.endswith(".model") for variable in space.values() for path in variable.paths):
            raise DefinitionError(
                f"{said}, so no candidate can be judged by it; maximize or limit 'tokens', for example"
            )
        self._warn(said)

    async def _open(self, optimizer: Optimizer) -> None:
        identity = identity_of(
            self.task, self.module, self.metric, optimizer=optimizer, search=self.search, context=self.context
        )
        entries = await self.journal.entries()
        for entry in entries:
            if entry["kind"] == "begin":
                check_identity(entry, identity, self.module, space=self.task.program.space, context=self.context)
            if entry["kind"] in {"answer", "lost"}:
                self.answers.remember(entry)
            if entry["kind"] == "trial":
                self.recorded[entry["number"]] = entry
        if not entries:
            await self.journal.append({"kind": "begin", "identity": identity})
        self.search.budget.begin(self.answers.elapsed)

    def _misled(self) -> Iterator[str]:
        """Yield a warning where an optimizer, as they do, looks for more of what is to become less."""
        led, objective = self.aims or (self.goal.metrics[0],), self.goal.objective
        if objective.startswith("-") and objective not in led and self.goal.figure in led:
            yield (
                f"{self.goal.figure!r} is to become less, and optimizers look for more of it: score its negative, or "
                f"give Joint(objectives=({objective!r},))"
            )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        python_warnings.warn(text, UserWarning, stacklevel=5)

    async def _estimate(self, optimizer: Optimizer) -> Estimate | None:
        """Tell what the search may use, where somebody wants to hear it; None too where it was cancelled meanwhile."""
        if self.search.on_estimate is None:
            return None
        rows, cut = self._rows(AS_IT_IS), Cut()
        noted = Recorded(self._module(AS_IT_IS, cut))
        report = await self._evaluated(AS_IT_IS, rows[:PROBES], module=noted, concurrency=1, cut=cut)
        if self.answers.halted is not None:
            raise self.answers.halted
        if cut.is_short:
            return None
        self._check_measured(report)
        calls = [noted.calls.get(row.trace_id, []) for row in report.rows]
        probe = Probe(module=noted.module, report=report, calls=calls, context=self.context)
        made = estimated(self.task, optimizer, probe, rows=len(rows), search=self.search)
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
        rows, cut, recorded = self._rows(candidate), Cut(), None
        try:
            module = self._module(candidate, cut)
        except VariableError as error:
            if "constraint" not in error.context or not candidate.assignment:
                raise
            # the optimizer did not know of the constraint: a failure like any other
            report = self._unscored(rows, f"{type(error).__name__}: {error}")
        else:
            recorded = Recorded(module) if candidate.is_traced else None
            if len(rows):
                report = await self._evaluated(candidate, rows, module=recorded or module, cut=cut)
            else:
                report = self._unscored(rows)
        if cut.is_short:
            return None
        entry = self.recorded.get(number)
        if entry is not None and entry["candidate"] != _hash_of(candidate):
            raise ConflictError(f"trial {number} in the journal is another one than was asked for now")
        known = {} if entry is None else {name: entry["figures"].get(name) for name in TIMES}
        figures = {**self.goal.figures(report), **known}
        calls = [recorded.calls.get(row.trace_id, []) for row in report.rows] if recorded is not None else []
        score = figures[report.metrics[0]] if report.scored else None
        return Trial(
            number=number,
            candidate=candidate,
            report=report,
            score=score,
            figures={name: math.nan if value is None else value for name, value in figures.items()},
            calls=calls,
            on_error=self.search.on_error,
        )

    def _unscored(self, rows: Dataset, error: str = "") -> Report:
        """Return the report of a candidate that cannot be run."""
        failed = tuple(Row(index=index, example=example, error=error) for index, example in enumerate(rows))
        return Report(rows=failed, metrics=tuple(self.metric), dataset=rows.name, checksum=rows.checksum)

    async def _evaluated(
        self,
        candidate: Candidate,
        rows: Dataset,
        *,
        module: Module | None = None,
        concurrency: int | None = None,
        cut: Cut | None = None,
    ) -> Report:
        return await evaluate(
            module or self._module(candidate),
            rows,
            self.metric,
            context=self._context(candidate.salt, cut),
            concurrency=concurrency or self.search.concurrency,
        )

    def _module(self, candidate: Candidate, cut: Cut | None = None) -> Module:
        made = self.module.assign(candidate.assignment)
        for _, part in made.named_modules():
            if isinstance(part, Backed) and candidate.temperature is not None:
                part.temperature = candidate.temperature
            if not isinstance(part, Predict):
                continue
            if part.model is not None and not isinstance(part.model, str):
                part.model = AnsweredModel(part.model, self.answers, salt=candidate.salt, cut=cut)
            if candidate.temperature is not None and part.takes("temperature"):
                part.settings = {**part.settings, "temperature": candidate.temperature}
        return made

    def _context(self, salt: str, cut: Cut | None = None) -> RunContext:
        given, answers = self.context, self.answers
        resolve = given.models
        return replace(
            given,
            model=None if given.model is None else AnsweredModel(given.model, answers, salt=salt, cut=cut),
            models=None if resolve is None else lambda text: AnsweredModel(resolve(text), answers, salt=salt, cut=cut),
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
        if (validation := self.search.validation) is not None:
            if self.search.rows is None or self.search.rows >= len(validation):
                return validation
            return validation.sample(self.search.rows, seed=self.search.seed)
        unseen = [index for index in self._order if index not in candidate.shown]
        if not unseen:
            self._warn(f"{candidate.label} shows every training row, so none is left to score it on; give more rows")
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
        told = self._progress(trial)
        self.context.say(told)
        if self.search.on_progress is not None:
            self.search.on_progress(told)
        if self.search.on_trial is not None:
            self.search.on_trial(trial)

    def _progress(self, trial: Trial) -> Event:
        """Return how the search stands after a trial: the best so far, the front, and what is spent."""
        if trial.candidate.is_final and trial.score is not None:
            cost = "usd" if trial.figures.get("usd", math.nan) > 0 else "tokens"
            sought = self.aims if len(self.aims) > 1 else dict.fromkeys((self.goal.objective, f"-{cost}"))
            self.ahead = front([*self.ahead, trial], list(sought))
        has_best = any(known.candidate.is_final and known.score is not None for known in self.trials)
        best, spent = self._best() if has_best else None, self.answers.spent
        score = "no score" if trial.score is None else f"{trial.score:.3f}"
        message = f"trial {trial.number}: {trial.candidate.label}: {score}"
        if best is not None:
            message += f"; best {best.score:.3f} (trial {best.number}), {len(self.ahead)} on the front"
        message += f"; {spent.calls} calls" + ("" if spent.cost_usd is None else f", ${spent.cost_usd:.4f}")
        attributes: dict[str, object] = {
            "trial": trial.number,
            "score": trial.score,
            "best": None if best is None else best.score,
            "best_trial": None if best is None else best.number,
            "front": [known.number for known in self.ahead],
            "calls": sum(known.report.usage.calls for known in self.trials),
            "spent_usd": spent.cost_usd,
        }
        return Event(name="progress", message=message, attributes=attributes)

    def _best(self) -> Trial:
        if not self.trials and self.answers.halted is not None:
            raise BudgetError(f"the budget does not suffice for one candidate: {self.answers.halted.message}")
        if not self.trials and self.search.control.is_cancelled:
            raise ExecutionError("the search was cancelled before the program as it is was scored")
        scored = [trial for trial in self.trials if trial.score is not None and trial.candidate.is_final]
        if not scored:
            errors = [row.error for trial in self.trials for row in trial.report.rows if row.error]
            because = f"; the first error was: {errors[0]}" if errors else ""
            raise DefinitionError(f"none of {len(self.trials)} candidates could be scored{because}")
        return max(scored, key=lambda trial: self.goal.merit(trial, self._known(trial)))

    def _known(self, trial: Trial) -> Mapping[str, float]:
        return {**trial.figures, **self.estimated.get(trial.number, {})}

    def _unmet(self, best: Trial) -> list[str]:
        """Return the limits that even the best candidate misses, and warn of them."""
        known = [self._known(trial) for trial in self.trials if trial.candidate.is_final]
        unmet = [missed(limit, known) for limit in self.goal.unmet(self._known(best))]
        if unmet:
            self._warn(f"no program within the limits: {', '.join(unmet)}")
        return unmet

    def _warn_of_failures(self, best: Trial, verdict: Verdict | None) -> None:
        reports = {f"trial {number}": self.trials[number].report for number in (0, best.number)}
        if verdict is not None:
            reports["the program as it was on held-out rows"] = verdict.before
            reports |= {"the best candidate on held-out rows": verdict.after} if best.candidate.assignment else {}
        for text in failures(reports):
            self._warn(text)

    async def _verdict(self, best: Trial, unmet: Sequence[str]) -> Verdict | str | None:
        """Compare on the held-out rows; return why it could not be done, None where there are no such rows."""
        test = self.search.test
        if test is None:
            return None
        ended = self.answers.halted
        if self.search.control.is_cancelled or (ended is not None and not best.candidate.assignment):
            return self._stopped()
        self.answers.halted = None  # the search may not spend any more, but this was set aside for the comparison
        before = await self.answers.in_time(self._evaluated(AS_IT_IS, test))
        after = None if before is None else await self.answers.in_time(self._evaluated(best.candidate, test))
        if before is None or after is None or self._is_over:
            return self._stopped()
        self.answers.halted = ended
        return judge(before, after, self.goal, alpha=self.search.alpha, seed=self.search.seed, unmet=unmet)

    def _kept(self, best: Trial, verdict: Verdict | str | None, unmet: Sequence[str]) -> str | None:
        """Return why the program is left as it was; None where it is not, or where it did best."""
        if self.search.insists or not (best.candidate.assignment or unmet):
            return None
        if unmet:
            return f"no program within the limits: {', '.join(unmet)}"
        if isinstance(verdict, str):
            return f"it could not be compared on the held-out rows: {verdict}"
        return "no significant improvement" if verdict is not None and not verdict.is_better else None

    @property
    def _is_over(self) -> bool:
        return self.answers.halted is not None or self.search.control.is_cancelled

    def _stopped(self) -> str | None:
        if self.answers.halted is not None:
            return f"budget: {self.answers.halted.message}{self.reserve}"
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
