"""The driver of all searches: asks an optimizer for candidates, scores them and keeps the best."""

import asyncio
import warnings as python_warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dspex.arguments import checks_names
from dspex.errors import BudgetError, DefinitionError, ExecutionError
from dspex.execution.context import RunContext, current, without_run
from dspex.execution.modules import Module, module_of
from dspex.language.programs import Program
from dspex.learning.evaluation import Comparison, Dataset, Report
from dspex.learning.evaluation.evaluate import Metrics, metrics_by_name
from dspex.learning.optimizers.ablation import ablate_winner
from dspex.learning.optimizers.checks import check_models, check_optimizer, check_splits
from dspex.learning.optimizers.current_values import as_program
from dspex.learning.optimizers.estimate import (
    Probe,
    additions_of,
    cost_of_run,
    estimate_search,
)
from dspex.learning.optimizers.identity import check_identity, identity_of
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.proposer import (
    Ask,
    Candidate,
    EstimateProvider,
    ObjectiveProvider,
    Optimizer,
    Proposer,
    Result,
    SearchQuestion,
    Task,
    Trial,
)
from dspex.learning.optimizers.race import Race, check_race
from dspex.learning.optimizers.rehearsal import Rehearsal
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.learning.optimizers.reserve import Reserve
from dspex.learning.optimizers.runner import Run, Runner
from dspex.learning.optimizers.scored_rows import ScoredRows
from dspex.learning.optimizers.search import Estimate, Outcome, Search
from dspex.learning.optimizers.search_warnings import (
    failure_warnings,
    missed_limit,
    search_warnings,
)
from dspex.learning.optimizers.smallest_budget import Plan
from dspex.learning.optimizers.trials import Trials
from dspex.learning.optimizers.verdict import Verdict, judge
from dspex.sync import run

P = TypeVar("P", bound=Module | Program)
PROBES = 3
BASELINE = Candidate(label="the program as it is", assignment={})


@checks_names
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
        async with driver.replies:
            return await driver.run(program, optimizer)
    finally:
        driver.reserve.release()


@checks_names
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
    """One search: runs what the optimizer asks for, in that order. Owned by one `aoptimize`."""

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
        metrics = metrics_by_name(metric)
        self.search = search
        scored = len(search.validation or train)
        self.task = Task(
            program=as_program(program),
            train=train,
            seed=search.seed,
            scored=min(scored, search.rows or scored),
        )
        self.goal = search.goal(list(metrics))
        if search.race:
            check_race(self.goal)
        self.reserve = Reserve(
            search.budget,
            len(search.test or ()),
            most=0.5 if search.insists else 1.0,
            at_once=search.concurrency,
        )
        self.journal = search.journal or MemoryJournal()
        self.replies = ReplyStore(
            self.journal,
            budget=search.budget,
            control=search.control,
            concurrency=search.concurrency,
        )
        self.runner = Runner(
            module=module_of(program),
            metrics=metrics,
            context=without_run(context),
            replies=self.replies,
            concurrency=search.concurrency,
        )
        self.trials = Trials(self.goal, self.journal)
        self.rows = ScoredRows(train, search, self._warn)
        self.warnings: list[str] = []

    async def run(self, program: P, optimizer: Optimizer) -> Outcome[P]:
        check_optimizer(optimizer)
        check_models(self.task.program.space, self.runner.context)
        if isinstance(optimizer, ObjectiveProvider):
            self.trials.objectives = optimizer.objectives
        self.goal.check_known(self.trials.objectives)
        # an unsuitable task fails here, before anything is spent
        proposer = optimizer.start(self.task)
        await self._open_journal(optimizer)
        for text in (
            *search_warnings(self.task, validation=self.search.validation, test=self.search.test),
            *self._direction_warnings(),
        ):
            self._warn(text)
        estimate = await self._estimate(optimizer)
        await self._run_search(proposer)
        stop_reason = self._stop_reason()
        self.reserve.release()
        best = self._best()
        unmet = self._unmet(best)
        verdict = await self._verdict(best, unmet)
        ablation = await self._ablation(best, verdict)
        self._warn_of_failures(best, verdict if isinstance(verdict, Verdict) else None)
        kept_reason = self._reason_kept(best, verdict, unmet)
        better: P = program.assign(best.candidate.assignment)  # type: ignore[assignment]
        return Outcome(
            program=program if kept_reason is not None or not best.candidate.assignment else better,
            original=program,
            best=best,
            trials=tuple(self.trials.all),
            verdict=verdict if isinstance(verdict, Verdict) else None,
            unmet=tuple(unmet),
            kept=kept_reason,
            tie=self.trials.tie_with(best),
            objective=self.goal.objective,
            estimate=estimate,
            estimated=self.trials.estimates,
            spent=self.replies.spent,
            new_calls=self.replies.calls,
            stopped=stop_reason or self._stop_reason(),
            warnings=tuple(self.warnings),
            incomparable=verdict if isinstance(verdict, str) else None,
            ablation=ablation,
        )

    async def _run_search(self, proposer: Proposer) -> None:
        await self._run_asks([BASELINE])
        if self.trials.all:
            self._check_measured(self.trials.all[0].report)
        self.reserve.update(self.trials.all)
        while not self._is_over and (asks := proposer.ask(self.search.trials_at_once)):
            results = await self._run_asks(asks)
            if len(results) < len(asks):
                break
            proposer.tell(results)
            self.reserve.update(self.trials.all)
        if isinstance(proposer, EstimateProvider):
            self.trials.estimates = proposer.estimates(self.trials.all)

    def _check_measured(self, report: Report) -> None:
        """Raise or warn before more is spent if the objective or a limit cannot be measured."""
        if not report.scored or not (
            lacking := self.goal.unmeasured(
                self.goal.figures(report), besides=self.trials.objectives
            )
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

    async def _open_journal(self, optimizer: Optimizer) -> None:
        """Take the entries of an earlier run of this search, or begin the journal."""
        module, context = self.runner.module, self.runner.context
        identity = identity_of(
            self.task,
            module,
            self.runner.metrics,
            optimizer=optimizer,
            search=self.search,
            context=context,
        )
        entries = await self.journal.entries()
        for entry in entries:
            if entry["kind"] == "begin":
                space = self.task.program.space
                check_identity(entry, identity, module, space=space, context=context)
            if entry["kind"] in {"answer", "lost"}:
                self.replies.restore(entry)
            if entry["kind"] == "trial":
                self.trials.restore(entry)
        if not entries:
            await self.journal.append({"kind": "begin", "identity": identity})
        self.search.budget.begin(self.replies.elapsed)

    def _direction_warnings(self) -> Iterator[str]:
        """Yield a warning if the optimizer would maximize a figure that the search minimizes."""
        objective = self.goal.objective
        optimized = self.trials.objectives or (self.goal.metrics[0],)
        if (
            objective.startswith("-")
            and objective not in optimized
            and self.goal.figure in optimized
        ):
            yield (
                f"{self.goal.figure!r} is minimized, but this optimizer maximizes it: score its "
                f"negative, or use Joint(objectives=({objective!r},))"
            )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        python_warnings.warn(text, UserWarning, stacklevel=5)

    async def _estimate(self, optimizer: Optimizer) -> Estimate | None:
        """Refuse a budget without room for one proposal, and report what the search may use.

        None without `on_estimate`, or if the search was cancelled.
        """
        search, rows, cost = self.search, self.rows.of(BASELINE), None
        budget = search.budget
        is_limited = (budget.calls, budget.tokens, budget.usd) != (None,) * 3
        if search.on_estimate is None and not is_limited:
            return None
        plan = self._plan(optimizer, rows=len(rows)) if is_limited else None
        probe = await self._probe(rows, plan)
        if probe is None:
            return None
        if plan is not None:
            cost = cost_of_run(self.task, additions_of(optimizer, self.task), probe, search=search)
            plan.check(budget, cost)
        if search.on_estimate is None:
            return None
        self._check_measured(probe.report)
        estimate = estimate_search(self.task, optimizer, probe, rows=len(rows), search=search)
        if plan is not None and cost is not None:
            estimate = replace(estimate, proposals=plan.proposals(budget, cost))
        search.on_estimate(estimate)
        return estimate

    async def _probe(self, rows: Dataset, plan: Plan | None) -> Probe | None:
        """Run the unchanged program on a few rows; their replies are used again."""
        at_once = self.search.concurrency if self.search.on_estimate is None else 1
        traced = replace(BASELINE, is_traced=True)
        result = await self.replies.in_time(
            self.runner.run(traced, rows[:PROBES], concurrency=at_once)
        )
        if self.replies.stop_error is not None:
            error = self.replies.stop_error
            runs = "" if plan is None else f". Up to the first proposal there are {plan}"
            raise BudgetError(f"{error.message}{runs}", limit=error.context.get("limit")) from error
        if result is None:
            return None
        return Probe(
            module=self.runner.module,
            report=result.report,
            calls=result.calls,
            context=self.runner.context,
        )

    def _plan(self, optimizer: Optimizer, *, rows: int) -> Plan | None:
        """Return the runs up to the first proposal; None if the optimizer proposes nothing."""
        silent = ScoredRows(self.task.train, self.search, lambda text: None)
        rehearsal = Rehearsal(optimizer=optimizer, task=self.task, goal=self.goal, rows=silent.of)
        runs = rehearsal.runs()
        if runs is None:
            return None
        held_out = 0 if self.search.insists else len(self.search.test or ())
        return Plan(rows=rows, fewest=runs[0], most=runs[1], held_out=held_out)

    async def _run_asks(self, asks: Sequence[Ask]) -> list[Result]:
        """Run `asks` at once and return their results in order, up to the first that was cut."""
        numbers = iter(range(len(self.trials.all), len(self.trials.all) + len(asks)))
        work = [
            self.runner.reply(item)
            if isinstance(item, SearchQuestion)
            else self._trial(item, next(numbers))
            for item in asks
        ]
        results: list[Result] = []
        for result in await _gather([self.replies.in_time(item) for item in work]):
            if result is None:
                break
            if isinstance(result, Trial):
                await self._add_trial(result)
            # an optimizer knows its candidates, also those that were stopped
            candidate = asks[len(results)]
            is_trial = isinstance(result, Trial) and isinstance(candidate, Candidate)
            results.append(replace(result, candidate=candidate) if is_trial else result)
        return results

    async def _trial(self, candidate: Candidate, number: int) -> Trial | None:
        rows = self.rows.of(candidate)
        best = self._score_to_beat(candidate)
        if best is None or not len(rows):
            result, label = await self.runner.run(candidate, rows), ""
        else:
            result, label = await self._race(candidate, rows, best)
        if result is None:
            return None
        if label:  # scored on some rows only, it may not win
            candidate = replace(candidate, label=f"{candidate.label}, {label}", is_final=False)
        return self.trials.create(number, candidate, result, on_error=self.search.on_error)

    def _score_to_beat(self, candidate: Candidate) -> float | None:
        if not (self.search.race and self.trials.all and candidate.is_final):
            return None
        return self.trials.best_score()

    async def _race(
        self, candidate: Candidate, rows: Dataset, best: float
    ) -> tuple[Run | None, str]:
        """Run a candidate until it cannot win any more; return the run, and what stopped it."""
        race = Race(self.goal, best=best, rows=rows, seed=self.search.seed)
        for part in race.parts():
            run = await self.runner.run(candidate, part)
            if run is None:
                return None, ""
            race.add(run)
        return race.result(), f"stopped after {race.progress}" if race.is_lost else ""

    async def _add_trial(self, trial: Trial) -> None:
        await self.trials.append(trial)
        event = self.trials.progress(trial, self.replies.spent)
        self.runner.context.say(event)
        if self.search.on_progress is not None:
            self.search.on_progress(event)
        if self.search.on_trial is not None:
            self.search.on_trial(trial)

    def _best(self) -> Trial:
        if not self.trials.all and self.replies.stop_error is not None:
            raise BudgetError(
                f"the budget is too small for one candidate: {self.replies.stop_error.message}"
            )
        if not self.trials.all and self.search.control.is_cancelled:
            raise ExecutionError("the search was cancelled before the unchanged program was scored")
        return self.trials.best()

    def _unmet(self, best: Trial) -> list[str]:
        """Return the limits that even the best candidate misses, and warn about them."""
        figures = [
            self.trials.figures(trial) for trial in self.trials.all if trial.candidate.is_final
        ]
        missed = self.goal.unmet(self.trials.figures(best))
        unmet = [missed_limit(limit, figures) for limit in missed]
        if unmet:
            self._warn(f"no program within the limits: {', '.join(unmet)}")
        return unmet

    def _warn_of_failures(self, best: Trial, verdict: Verdict | None) -> None:
        reports = {f"trial {number}": self.trials.all[number].report for number in (0, best.number)}
        if verdict is not None:
            reports["the program as it was on held-out rows"] = verdict.before
            if best.candidate.assignment:
                reports["the best candidate on held-out rows"] = verdict.after
        for text in failure_warnings(reports):
            self._warn(text)

    async def _verdict(self, best: Trial, unmet: Sequence[str]) -> Verdict | str | None:
        """Compare on the held-out rows; return None without such rows, or why it was impossible."""
        test = self.search.test
        if test is None:
            return None
        replies, error = self.replies, self.replies.stop_error
        if self.search.control.is_cancelled or (
            error is not None and not best.candidate.assignment
        ):
            return self._stop_reason()
        replies.stop_error = None  # the cost of the comparison was reserved
        before = await replies.in_time(self.runner.evaluate(BASELINE, test))
        after = (
            None
            if before is None
            else await replies.in_time(self.runner.evaluate(best.candidate, test))
        )
        if before is None or after is None or self._is_over:
            return self._stop_reason()
        replies.stop_error = error
        return judge(
            before, after, self.goal, alpha=self.search.alpha, seed=self.search.seed, unmet=unmet
        )

    async def _ablation(
        self, best: Trial, verdict: Verdict | str | None
    ) -> Mapping[str, Comparison]:
        """Compare the winner with itself without each value, if that is wanted."""
        if not self.search.ablate:
            return {}
        comparisons, problem = await ablate_winner(
            best,
            self.task.train if self.search.test is None else self.search.test,
            runner=self.runner,
            replies=self.replies,
            whole=verdict.after if isinstance(verdict, Verdict) else None,
            alpha=self.search.alpha,
        )
        if problem:
            self._warn(problem)
        return comparisons

    def _reason_kept(
        self, best: Trial, verdict: Verdict | str | None, unmet: Sequence[str]
    ) -> str | None:
        """Return why the program stays unchanged; None if the winner replaces it or it won."""
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
        return self.replies.stop_error is not None or self.search.control.is_cancelled

    def _stop_reason(self) -> str | None:
        if self.replies.stop_error is not None:
            return f"budget: {self.replies.stop_error.message}{self.reserve}"
        return "cancelled" if self.search.control.is_cancelled else None


async def _gather(work: list[Any]) -> list[Any]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from None
    return [task.result() for task in tasks]
