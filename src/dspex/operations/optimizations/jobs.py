"""Optimizations as jobs: a search that continues where it stopped, and stores a better version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from dspex.errors import DefinitionError
from dspex.execution.backends import BackendModule, LazyBackend, Optimization, OptimizingBackend
from dspex.execution.backends.remote import Score
from dspex.execution.clients import Budget
from dspex.execution.context import RunContext
from dspex.execution.modules import Module
from dspex.language.programs import Program
from dspex.language.records import Example, Prediction
from dspex.language.signatures import Signature
from dspex.learning.evaluation import Dataset, Metric, aevaluate
from dspex.learning.evaluation.evaluate import judge_or_score
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.optimizers import (
    Control,
    Optimizer,
    Outcome,
    Search,
    Trial,
    aoptimize,
)
from dspex.learning.optimizers.dspy_options import DSPY_OPTIMIZERS
from dspex.learning.optimizers.prompts import prompt_diff
from dspex.learning.optimizers.registry import OPTIMIZERS
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.learning.optimizers.verdict import Verdict, judge
from dspex.operations.evaluations.job_environment import JobEnvironment, Material
from dspex.operations.jobs import Done, JobRun
from dspex.operations.optimizations.held_out import answers_of, declarations_of, goal_of, split
from dspex.operations.optimizations.optimizer_options import Part, option_problem
from dspex.operations.optimizations.promotion import TrialCheck
from dspex.operations.optimizations.records import OPTIMIZATION_JOB, OptimizationJobRecord
from dspex.operations.optimizations.results import (
    outcome_values,
    trial_columns,
    verdict_values,
)
from dspex.operations.optimizations.search_result import OptimizationResult, ResultRows
from dspex.operations.programs.declarations import with_declarations, with_values_of

_REPORTS = 20  # progress reports in one pass over the rows


class OptimizationHandler:
    """Searches for a better version of a program, here or with dspy's own optimizer."""

    def __init__(self, environment: JobEnvironment) -> None:
        """Take the environment of jobs."""
        self._environment = environment

    async def __call__(self, run: JobRun, /) -> Done:
        """Search, or continue a search, and return the better program."""
        material = await self._environment.material(run, OPTIMIZATION_JOB)
        if not isinstance(run.job, OptimizationJobRecord):
            raise DefinitionError("this job is not an optimization")
        if run.job.trial_id is not None:
            check = TrialCheck(self._environment, run, job=run.job, material=material)
            result = await check.result()
        else:
            result = await self._search(run, run.job, material)
        rows = ResultRows(self._environment, run.job, result)
        return Done(values=result.values, changes=rows.changes, message=result.message)

    async def _search(
        self, run: JobRun, job: OptimizationJobRecord, material: Material
    ) -> OptimizationResult:
        train, test = split(material.data, job.configuration)
        if test is None:
            run.report(
                f"too few rows to hold some out ({len(train)}): the winner is not compared with "
                "the program"
            )
        is_on_dspy = material.choice.name == "dspy" and job.optimizer in DSPY_OPTIMIZERS
        _check_options(job, on_dspy=is_on_dspy)
        if is_on_dspy:
            return await self._with_dspy(run, job, material, data=(train, test))
        return await self._natively(run, job, material, data=(train, test))

    async def _natively(
        self,
        run: JobRun,
        job: OptimizationJobRecord,
        material: Material,
        *,
        data: tuple[Dataset, Dataset | None],
    ) -> OptimizationResult:
        settings = job.configuration
        module = self._module(job, material)
        search = Search(
            rows=settings.get("rows"),
            test=data[1],
            insists=bool(settings.get("insist")),
            race=bool(settings.get("race")),
            ablate=bool(settings.get("ablate")),
            **goal_of(settings),
            budget=Budget(**job.budget),
            journal=material.journal,
            control=Control(),
            concurrency=settings.get("concurrency") or 8,
            seed=settings.get("seed") or 0,
            on_trial=_ProgressReporter(run),
        )
        outcome = await aoptimize(
            module,
            _optimizer(job),
            train=data[0],
            metric=material.metrics,
            context=await self._environment.stoppable(run),
            search=search,
        )
        return _of_outcome(outcome, with_values_of(module, material.program))

    def _module(self, job: OptimizationJobRecord, material: Material) -> Module:
        """Return the program with the variables that the job declares."""
        module = self._environment.module(material.choice)
        return with_declarations(module, declarations_of(job.configuration))

    async def _with_dspy(
        self,
        run: JobRun,
        job: OptimizationJobRecord,
        material: Material,
        *,
        data: tuple[Dataset, Dataset | None],
    ) -> OptimizationResult:
        async with await answers_of(job, material) as answers:
            return await self._optimize_on_dspy(run, job, material, data=data, answers=answers)

    async def _optimize_on_dspy(
        self,
        run: JobRun,
        job: OptimizationJobRecord,
        material: Material,
        *,
        data: tuple[Dataset, Dataset | None],
        answers: ReplyStore,
    ) -> OptimizationResult:
        train, test = data
        settings = job.configuration
        for part in ("race", "ablate"):
            if settings.get(part):
                raise DefinitionError(
                    f"dspy's {job.optimizer} scores its candidates itself and cannot {part} them; "
                    f"leave {part!r} out of the configuration"
                )
        context = await self._environment.answered(run, answers)
        backend = await _optimizing(material)
        search = Search(test=test, insists=bool(settings.get("insist")), **goal_of(settings))
        goal = search.goal(list(material.metrics))
        name = (
            goal.objective if goal.objective in material.metrics else next(iter(material.metrics))
        )
        work = Optimization(
            optimizer=job.optimizer,
            metric=_Scorer(material.metrics[name], material.program.signature, context),
            trainset=[example.to_dict() for example in train],
            options=settings.get("options") or {},
            compile=settings.get("compile") or {},
        )
        program = with_values_of(self._module(job, material), material.choice.program)
        handle = await backend.create_program(program)
        better = await backend.optimize_program(
            handle,
            work,
            context,
            on_progress=lambda event, details: _report_dspy(run, event, details),
        )
        modules = [BackendModule(each, backend) for each in (program, better)]
        judgement: Verdict | str | None = None
        if test is not None:
            before, after = [
                await aevaluate(module, test, material.metrics, context=context)
                for module in modules
            ]
            judgement = judge(before, after, goal, alpha=search.alpha)
        verdict = judgement if isinstance(judgement, Verdict) else None
        best = {"label": f"dspy's {job.optimizer}", "metric": name, **verdict_values(verdict)}
        values = {"best": {**best, "prompt_changes": prompt_diff(modules[0], modules[1])}}
        keeps = (
            judgement is not None
            and not (verdict is not None and verdict.is_better)
            and not search.insists
        )
        message = str(verdict) if verdict is not None else f"dspy's {job.optimizer} made a program"
        if isinstance(judgement, str):
            message = f"{message}, and it could not be compared on the held-out rows: {judgement}"
        return OptimizationResult(program=None if keeps else better, values=values, message=message)


@dataclass(frozen=True, slots=True)
class _Scorer:
    """A metric for dspy's optimizers, which read the reason of a judge as feedback."""

    metric: Metric | JudgeMetric
    contract: Signature
    context: RunContext

    async def __call__(self, row: Mapping[str, Any], outputs: Mapping[str, Any]) -> Score:
        example, prediction = Example(row), Prediction(outputs)
        judgement = await judge_or_score(
            self.metric, example, prediction, contract=self.contract, context=self.context
        )
        if not judgement.reason:
            return judgement.score
        return {"score": judgement.score, "feedback": judgement.reason}


class _ProgressReporter:
    """Reports each finished trial."""

    def __init__(self, run: JobRun) -> None:
        self._run = run
        self._best: float | None = None

    def __call__(self, trial: Trial) -> None:
        score = trial.score
        if score is not None and trial.candidate.is_final:
            self._best = score if self._best is None else max(self._best, score)
        shown_score = "no score" if score is None else f"{score:.3f}"
        self._run.report(
            f"trial {trial.number}: {trial.candidate.label}: {shown_score}",
            trials=trial.number + 1,
            trial={"number": trial.number, "label": trial.candidate.label, "score": score},
            best=self._best,
        )


def _check_options(job: OptimizationJobRecord, *, on_dspy: bool) -> None:
    """Refuse what callers may not say to the optimizer that runs here.

    This holds also in a job of an earlier version.
    """
    parts: tuple[Part, ...] = ("options", "compile")
    for part in parts:
        problem = option_problem(
            job.optimizer, job.configuration.get(part) or {}, part=part, on_dspy=on_dspy
        )
        if problem is not None:
            raise DefinitionError(f"configuration.{part}.{problem.name}: {problem.message}")


def _optimizer(job: OptimizationJobRecord) -> Optimizer:
    options = job.configuration.get("options") or {}
    try:
        return OPTIMIZERS[job.optimizer].create(**options)
    except TypeError as error:
        raise DefinitionError(f"{job.optimizer} does not take these options: {error}") from error


def _of_outcome(outcome: Outcome[Module], program: Program) -> OptimizationResult:
    better = with_values_of(outcome.program, program)
    is_same = better.content_hash == program.content_hash
    return OptimizationResult(
        program=None if is_same else better,
        values=outcome_values(outcome),
        message=outcome.conclusion,
        trials=trial_columns(outcome),
    )


async def _optimizing(material: Material) -> OptimizingBackend:
    backend: Any = material.choice.backend
    return cast(
        "OptimizingBackend",
        await backend.ensure_started() if isinstance(backend, LazyBackend) else backend,
    )


def _report_dspy(run: JobRun, event: str, details: Any) -> None:
    if event == "progress" and isinstance(details, Mapping):
        scored = details.get("scored")
        if scored is None:
            run.report(
                f"{details.get('optimizer', 'dspy')} began on {details.get('examples')} rows"
            )
        elif scored % max(1, details["examples"] // _REPORTS) == 0:
            run.report(
                f"{scored} predictions scored, mean {details['mean']:.3f}",
                scored=scored,
                mean=details["mean"],
            )
