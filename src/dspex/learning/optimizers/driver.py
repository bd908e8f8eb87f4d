"""The driver of all searches: asks an optimizer for candidates, scores them and keeps the best."""

import asyncio
import math
import random
import warnings as python_warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dspex.errors import (
    BudgetError,
    ConflictError,
    DefinitionError,
    DspexError,
    ExecutionError,
    VariableError,
)
from dspex.execution.context import RunContext, current, without_run
from dspex.execution.modules import Module, Predict, module_of
from dspex.language.programs import Program
from dspex.language.records.canonical import content_hash
from dspex.learning.evaluation import Backed, Dataset, Report, Row, aevaluate
from dspex.learning.evaluation.evaluate import Metrics, metrics_by_name
from dspex.learning.optimizers.answering import AnsweredModel, Answers, Cut, HaltError
from dspex.learning.optimizers.call_recorder import CallRecorder
from dspex.learning.optimizers.checks import check_models, check_optimizer, check_splits
from dspex.learning.optimizers.current_values import as_program
from dspex.learning.optimizers.estimate import Probe, estimate_search
from dspex.learning.optimizers.identity import check_identity, identity_of
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.limits import front
from dspex.learning.optimizers.proposer import (
    Ask,
    Candidate,
    EstimateProvider,
    ObjectiveProvider,
    Optimizer,
    Proposer,
    Question,
    Reply,
    Result,
    Task,
    Trial,
)
from dspex.learning.optimizers.reserve import Reserve
from dspex.learning.optimizers.search import Estimate, Outcome, Search
from dspex.learning.optimizers.search_warnings import (
    failure_warnings,
    missed_limit,
    search_warnings,
)
from dspex.learning.optimizers.verdict import Verdict, judge
from dspex.sync import run
from dspex.telemetry import Event

P = TypeVar("P", bound=Module | Program)
PROBES = 3
TIMES = (
    "p50",
    "p95",
)  # measured values from before a restart; everything else is recomputed from replies
BASELINE = Candidate(label="the program as it is", assignment={})


async def aoptimize(
    program: P,
    optimizer: Optimizer,
    *,
    train: Dataset,
    metric: Metrics,
    context: RunContext | None = None,
    search: Search | None = None,
) -> Outcome[P]:
    """Score the candidates that `optimizer` proposes and return the best program.

    Trial 0 is the unchanged program. A candidate is scored on rows that it does not show to the
    model itself. The earlier of two equal candidates wins. The observer of `context` gets a
    progress event after each trial.

    Raises:
        DefinitionError: the task does not suit the optimizer, the metric is broken, or no candidate
        could be scored. ConfigurationError: no model is set, or a model that may be chosen cannot
        be opened. ConflictError: the journal belongs to another search.
        BudgetError: the budget is too small for one candidate.
        ExecutionError: the search was cancelled before one candidate was scored.
    """
    driver = _Driver(
        program, train, metric, context=context or current(), search=search or Search()
    )
    try:
        async with driver.answers:
            return await driver.run(program, optimizer)
    finally:
        driver.reserve.release()


def optimize(
    program: P,
    optimizer: Optimizer,
    *,
    train: Dataset,
    metric: Metrics,
    context: RunContext | None = None,
    search: Search | None = None,
) -> Outcome[P]:
    """Search as `aoptimize` does, from synchronous code: scripts and notebooks."""
    return run(
        aoptimize(program, optimizer, train=train, metric=metric, context=context, search=search)
    )


class _Driver:
    """One search: scores candidates and questions in the order of asking. Owned by one call of `aoptimize`."""

    def __init__(
        self,
        program: Module | Program,
        train: Dataset,
        metric: Metrics,
        *,
        context: RunContext,
        search: Search,
    ) -> None:
        check_splits(train, search)
        self.module = module_of(program)
        self.train = train
        self.metric = metrics_by_name(metric)
        self.search = search
        scored = len(search.validation or train)
        self.task = Task(
            program=as_program(program),
            train=train,
            seed=search.seed,
            scored=min(scored, search.rows or scored),
        )
        self.goal = search.goal(list(self.metric))
        self.reserve = Reserve(
            search.budget,
            len(search.test or ()),
            most=0.5 if search.insists else 1.0,
            at_once=search.concurrency,
        )
        self.journal = search.journal or MemoryJournal()
        self.answers = Answers(
            self.journal,
            budget=search.budget,
            control=search.control,
            concurrency=search.concurrency,
        )
        self.context = without_run(context)
        self.trials: list[Trial] = []
        self.aims: tuple[str, ...] = ()
        self.ahead: list[Trial] = []
        self.recorded: dict[int, Mapping[str, Any]] = {}
        self.estimated: Mapping[int, Mapping[str, float]] = {}
        self.warnings: list[str] = []
        self._order = list(range(len(train)))
        random.Random(search.seed).shuffle(
            self._order
        )  # which rows are scored first, the same for all

    async def run(self, program: P, optimizer: Optimizer) -> Outcome[P]:
        check_optimizer(optimizer)
        check_models(self.task.program.space, self.context)
        self.aims = optimizer.objectives if isinstance(optimizer, ObjectiveProvider) else ()
        self.goal.check_known(self.aims)
        proposer = optimizer.start(
            self.task
        )  # an unsuitable task fails here, before anything is spent
        await self._open(optimizer)
        for text in (
            *search_warnings(self.task, validation=self.search.validation, test=self.search.test),
            *self._direction_warnings(),
        ):
            self._warn(text)
        estimate = await self._estimate(optimizer)
        await self._run_search(proposer)
        stopped = self._stop_reason()
        self.reserve.release()
        best = self._best()
        unmet = self._unmet(best)
        verdict = await self._verdict(best, unmet)
        self._warn_of_failures(best, verdict if isinstance(verdict, Verdict) else None)
        kept_reason = self._reason_kept(best, verdict, unmet)
        better: P = program.assign(best.candidate.assignment)  # type: ignore[assignment]  # both kinds return their own
        return Outcome(
            program=program if kept_reason is not None or not best.candidate.assignment else better,
            original=program,
            best=best,
            trials=tuple(self.trials),
            verdict=verdict if isinstance(verdict, Verdict) else None,
            unmet=tuple(unmet),
            kept=kept_reason,
            objective=self.goal.objective,
            estimate=estimate,
            estimated=self.estimated,
            spent=self.answers.spent,
            made=self.answers.made,
            stopped=stopped or self._stop_reason(),
            warnings=tuple(self.warnings),
        )

    async def _run_search(self, proposer: Proposer) -> None:
        await self._run_asks([BASELINE])
        if self.trials:
            self._check_measured(self.trials[0].report)
        self.reserve.update(self.trials)
        while not self._is_over and (asks := proposer.ask(self.search.trials_at_once)):
            results = await self._run_asks(asks)
            if len(results) < len(asks):
                break
            proposer.tell(results)
            self.reserve.update(self.trials)
        if isinstance(proposer, EstimateProvider):
            self.estimated = proposer.estimates(self.trials)

    def _check_measured(self, report: Report) -> None:
        """Raise or warn early if the objective or a limit cannot be measured, before more is spent."""
        if not report.scored or not (
            lacking := self.goal.unmeasured(self.goal.figures(report), besides=self.aims)
        ):
            return
        why = " (no price is known)" if "usd" in lacking else ""
        message = (
            f"{', '.join(map(repr, lacking))} cannot be measured for the unchanged program{why}"
        )
        space = self.task.program.space
        if not any(
            path.endswith(".model") for variable in space.values() for path in variable.paths
        ):
            raise DefinitionError(
                f"{message}, so no candidate can be judged by it; maximize or limit 'tokens', for "
                "example"
            )
        self._warn(message)

    async def _open(self, optimizer: Optimizer) -> None:
        identity = identity_of(
            self.task,
            self.module,
            self.metric,
            optimizer=optimizer,
            search=self.search,
            context=self.context,
        )
        entries = await self.journal.entries()
        for entry in entries:
            if entry["kind"] == "begin":
                check_identity(
                    entry,
                    identity,
                    self.module,
                    space=self.task.program.space,
                    context=self.context,
                )
            if entry["kind"] in {"answer", "lost"}:
                self.answers.remember(entry)
            if entry["kind"] == "trial":
                self.recorded[entry["number"]] = entry
        if not entries:
            await self.journal.append({"kind": "begin", "identity": identity})
        self.search.budget.begin(self.answers.elapsed)

    def _direction_warnings(self) -> Iterator[str]:
        """Yield a warning if the optimizer would maximize a figure that the search minimizes."""
        led, objective = self.aims or (self.goal.metrics[0],), self.goal.objective
        if objective.startswith("-") and objective not in led and self.goal.figure in led:
            yield (
                f"{self.goal.figure!r} is minimized, but this optimizer maximizes it: score its "
                "negative, or use "
                f"Joint(objectives=({objective!r},))"
            )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        python_warnings.warn(text, UserWarning, stacklevel=5)

    async def _estimate(self, optimizer: Optimizer) -> Estimate | None:
        """Report what the search may use; None without `on_estimate`, or if it was cancelled meanwhile."""
        if self.search.on_estimate is None:
            return None
        rows, cut = self._rows(BASELINE), Cut()
        noted = CallRecorder(self._module(BASELINE, cut))
        report = await self._evaluate(BASELINE, rows[:PROBES], module=noted, concurrency=1, cut=cut)
        if self.answers.halted is not None:
            raise self.answers.halted
        if cut.is_short:
            return None
        self._check_measured(report)
        calls = [noted.calls.get(row.trace_id, []) for row in report.rows]
        probe = Probe(module=noted.module, report=report, calls=calls, context=self.context)
        estimate = estimate_search(self.task, optimizer, probe, rows=len(rows), search=self.search)
        self.search.on_estimate(estimate)
        return estimate

    async def _run_asks(self, asks: Sequence[Ask]) -> list[Result]:
        """Run `asks` concurrently and record their results in order, up to the first that was cut short."""
        first = len(self.trials)
        numbers = iter(range(first, first + len(asks)))
        work = [
            self._reply(item) if isinstance(item, Question) else self._trial(item, next(numbers))
            for item in asks
        ]
        results: list[Result] = []
        for result in await _gather([self.answers.in_time(item) for item in work]):
            if result is None:
                break
            if isinstance(result, Trial):
                await self._record_trial(result)
            results.append(result)
        return results

    async def _reply(self, question: Question) -> Reply | None:
        try:
            prediction = await question.module.acall(
                self._context(question.salt), **question.inputs
            )
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
            # the optimizer did not know the constraint: count it as a failed candidate
            report = self._failed_report(rows, f"{type(error).__name__}: {error}")
        else:
            recorded = CallRecorder(module) if candidate.is_traced else None
            if len(rows):
                report = await self._evaluate(candidate, rows, module=recorded or module, cut=cut)
            else:
                report = self._failed_report(rows)
        if cut.is_short:
            return None
        entry = self.recorded.get(number)
        if entry is not None and entry["candidate"] != _hash_of(candidate):
            raise ConflictError(
                f"trial {number} in the journal does not match the candidate that is due now"
            )
        recorded_times = (
            {} if entry is None else {name: entry["figures"].get(name) for name in TIMES}
        )
        figures = {**self.goal.figures(report), **recorded_times}
        calls = (
            [recorded.calls.get(row.trace_id, []) for row in report.rows]
            if recorded is not None
            else []
        )
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

    def _failed_report(self, rows: Dataset, error: str = "") -> Report:
        """Return the report of a candidate that could not be run."""
        failed = tuple(
            Row(index=index, example=example, error=error) for index, example in enumerate(rows)
        )
        return Report(
            rows=failed, metrics=tuple(self.metric), dataset=rows.name, checksum=rows.checksum
        )

    async def _evaluate(
        self,
        candidate: Candidate,
        rows: Dataset,
        *,
        module: Module | None = None,
        concurrency: int | None = None,
        cut: Cut | None = None,
    ) -> Report:
        return await aevaluate(
            module or self._module(candidate),
            rows,
            self.metric,
            context=self._context(candidate.salt, cut),
            concurrency=concurrency or self.search.concurrency,
        )

    def _module(self, candidate: Candidate, cut: Cut | None = None) -> Module:
        module = self.module.assign(candidate.assignment)
        for _, part in module.named_modules():
            if isinstance(part, Backed) and candidate.temperature is not None:
                part.temperature = candidate.temperature
            if not isinstance(part, Predict):
                continue
            if part.model is not None and not isinstance(part.model, str):
                part.model = AnsweredModel(part.model, self.answers, salt=candidate.salt, cut=cut)
            if candidate.temperature is not None and part.takes("temperature"):
                part.settings = {**part.settings, "temperature": candidate.temperature}
        return module

    def _context(self, salt: str, cut: Cut | None = None) -> RunContext:
        context, answers = self.context, self.answers
        resolve = context.models
        return replace(
            context,
            model=None
            if context.model is None
            else AnsweredModel(context.model, answers, salt=salt, cut=cut),
            models=None
            if resolve is None
            else lambda text: AnsweredModel(resolve(text), answers, salt=salt, cut=cut),
        )

    def _rows(self, candidate: Candidate) -> Dataset:
        rows = self._all_rows(candidate)
        if candidate.batch is None or candidate.batch[0] >= len(rows):
            return rows
        count, draw = candidate.batch
        order = list(range(len(rows)))
        random.Random(draw).shuffle(
            order
        )  # a larger batch of the same draw begins with the smaller one
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
            self._warn(
                f"{candidate.label} shows every training row, so no row is left to score it on; "
                "add rows"
            )
        return self.train.pick(unseen[: self.search.rows])

    async def _record_trial(self, trial: Trial) -> None:
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
                    "figures": {
                        name: value if math.isfinite(value) else None
                        for name, value in trial.figures.items()
                    },
                }
            )
        event = self._progress(trial)
        self.context.say(event)
        if self.search.on_progress is not None:
            self.search.on_progress(event)
        if self.search.on_trial is not None:
            self.search.on_trial(trial)

    def _progress(self, trial: Trial) -> Event:
        """Return the progress event after a trial: the best so far, the front, and what was spent."""
        if trial.candidate.is_final and trial.score is not None:
            cost = "usd" if trial.figures.get("usd", math.nan) > 0 else "tokens"
            sought = (
                self.aims
                if len(self.aims) > 1
                else dict.fromkeys((self.goal.objective, f"-{cost}"))
            )
            self.ahead = front([*self.ahead, trial], list(sought))
        has_best = any(
            other_trial.candidate.is_final and other_trial.score is not None
            for other_trial in self.trials
        )
        best, spent = self._best() if has_best else None, self.answers.spent
        score = "no score" if trial.score is None else f"{trial.score:.3f}"
        message = f"trial {trial.number}: {trial.candidate.label}: {score}"
        if best is not None:
            message += (
                f"; best {best.score:.3f} (trial {best.number}), {len(self.ahead)} on the front"
            )
        message += f"; {spent.calls} calls" + (
            "" if spent.cost_usd is None else f", ${spent.cost_usd:.4f}"
        )
        attributes: dict[str, object] = {
            "trial": trial.number,
            "score": trial.score,
            "best": None if best is None else best.score,
            "best_trial": None if best is None else best.number,
            "front": [other_trial.number for other_trial in self.ahead],
            "calls": sum(other_trial.report.usage.calls for other_trial in self.trials),
            "spent_usd": spent.cost_usd,
        }
        return Event(name="progress", message=message, attributes=attributes)

    def _best(self) -> Trial:
        if not self.trials and self.answers.halted is not None:
            raise BudgetError(
                f"the budget is too small for one candidate: {self.answers.halted.message}"
            )
        if not self.trials and self.search.control.is_cancelled:
            raise ExecutionError("the search was cancelled before the unchanged program was scored")
        scored = [
            trial for trial in self.trials if trial.score is not None and trial.candidate.is_final
        ]
        if not scored:
            errors = [row.error for trial in self.trials for row in trial.report.rows if row.error]
            because = f"; the first error was: {errors[0]}" if errors else ""
            raise DefinitionError(f"none of {len(self.trials)} candidates could be scored{because}")
        return max(scored, key=lambda trial: self.goal.merit(trial, self._figures(trial)))

    def _figures(self, trial: Trial) -> Mapping[str, float]:
        return {**trial.figures, **self.estimated.get(trial.number, {})}

    def _unmet(self, best: Trial) -> list[str]:
        """Return the limits that even the best candidate misses, and warn about them."""
        figures = [self._figures(trial) for trial in self.trials if trial.candidate.is_final]
        unmet = [missed_limit(limit, figures) for limit in self.goal.unmet(self._figures(best))]
        if unmet:
            self._warn(f"no program within the limits: {', '.join(unmet)}")
        return unmet

    def _warn_of_failures(self, best: Trial, verdict: Verdict | None) -> None:
        reports = {f"trial {number}": self.trials[number].report for number in (0, best.number)}
        if verdict is not None:
            reports["the program as it was on held-out rows"] = verdict.before
            reports |= (
                {"the best candidate on held-out rows": verdict.after}
                if best.candidate.assignment
                else {}
            )
        for text in failure_warnings(reports):
            self._warn(text)

    async def _verdict(self, best: Trial, unmet: Sequence[str]) -> Verdict | str | None:
        """Compare on the held-out rows; a string says why that was impossible, None that there are no such rows."""
        test = self.search.test
        if test is None:
            return None
        halted = self.answers.halted
        if self.search.control.is_cancelled or (
            halted is not None and not best.candidate.assignment
        ):
            return self._stop_reason()
        self.answers.halted = (
            None  # the search may not spend more, but this amount was reserved for the comparison
        )
        before = await self.answers.in_time(self._evaluate(BASELINE, test))
        after = (
            None
            if before is None
            else await self.answers.in_time(self._evaluate(best.candidate, test))
        )
        if before is None or after is None or self._is_over:
            return self._stop_reason()
        self.answers.halted = halted
        return judge(
            before, after, self.goal, alpha=self.search.alpha, seed=self.search.seed, unmet=unmet
        )

    def _reason_kept(
        self, best: Trial, verdict: Verdict | str | None, unmet: Sequence[str]
    ) -> str | None:
        """Return why the program stays unchanged, or None if the winner replaces it or it won itself."""
        if self.search.insists or not (best.candidate.assignment or unmet):
            return None
        if unmet:
            return f"no program within the limits: {', '.join(unmet)}"
        if isinstance(verdict, str):
            return f"the winner could not be compared on the held-out rows: {verdict}"
        return (
            "no significant improvement" if verdict is not None and not verdict.is_better else None
        )

    @property
    def _is_over(self) -> bool:
        return self.answers.halted is not None or self.search.control.is_cancelled

    def _stop_reason(self) -> str | None:
        if self.answers.halted is not None:
            return f"budget: {self.answers.halted.message}{self.reserve}"
        return "cancelled" if self.search.control.is_cancelled else None


async def _gather(work: list[Any]) -> list[Any]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from None
    return [task.result() for task in tasks]


def _hash_of(candidate: Candidate) -> str:
    rows = None if candidate.rows is None else list(candidate.rows)
    sampling = [candidate.batch, candidate.temperature, candidate.salt]
    return content_hash([_plain(candidate.assignment), sorted(candidate.shown), rows, sampling])


def _plain(value: Any) -> Any:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)
