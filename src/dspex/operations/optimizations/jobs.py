"""Optimizations as jobs: a search that continues where it stopped, and stores a better version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from dspex.errors import ConflictError, DefinitionError
from dspex.execution.backends import BackendModule, LazyBackend, Optimization, OptimizingBackend
from dspex.execution.backends.remote import Score
from dspex.execution.clients import Budget
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, build
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
from dspex.learning.optimizers.registry import OPTIMIZERS
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.learning.optimizers.verdict import Verdict, judge
from dspex.operations.evaluations.job_environment import JobEnvironment, Material
from dspex.operations.framework.store import Change, Insert, Query, Update
from dspex.operations.jobs import Done, JobRun
from dspex.operations.optimizations.optimizer_options import Part, option_problem
from dspex.operations.optimizations.records import OPTIMIZATION_JOB, OptimizationJobRecord
from dspex.operations.optimizations.results import (
    outcome_values,
    trial_columns,
    trial_rows,
    verdict_values,
)
from dspex.operations.programs.records import PROGRAM, PROGRAM_VERSION, ProgramVersionRecord

_ENOUGH = 10  # rows from which on some are held out
_HOLDOUT = 0.3
_REPORTS = 20  # progress reports in one pass over the rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _SearchResult:
    """The better program, None if there is none; columns and message of the job; its trials."""

    program: Program | None
    values: Mapping[str, Any]
    message: str
    trials: Sequence[Mapping[str, Any]] = ()


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
        train, test = _split(material.data, run.job.configuration)
        if test is None:
            run.report(
                f"too few rows to hold some out ({len(train)}): the winner is not compared with "
                "the program"
            )
        is_on_dspy = material.choice.name == "dspy" and run.job.optimizer in DSPY_OPTIMIZERS
        _check_options(run.job, on_dspy=is_on_dspy)
        if is_on_dspy:
            result = await self._with_dspy(run, run.job, material, data=(train, test))
        else:
            result = await self._natively(run, run.job, material, data=(train, test))
        rows = _ResultRows(self._environment, run.job, result)
        return Done(values=result.values, changes=rows.changes, message=result.message)

    async def _natively(
        self,
        run: JobRun,
        job: OptimizationJobRecord,
        material: Material,
        *,
        data: tuple[Dataset, Dataset | None],
    ) -> _SearchResult:
        settings, program = job.configuration, material.choice.program
        is_here = material.choice.name == "native"
        module: Module = (
            build(program, code=self._environment.code)
            if is_here
            else BackendModule(program, material.choice.backend)
        )
        search = Search(
            rows=settings.get("rows"),
            test=data[1],
            insists=bool(settings.get("insist")),
            race=bool(settings.get("race")),
            **_goal(settings),
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
        return _of_outcome(outcome, material.program)

    async def _with_dspy(
        self,
        run: JobRun,
        job: OptimizationJobRecord,
        material: Material,
        *,
        data: tuple[Dataset, Dataset | None],
    ) -> _SearchResult:
        async with await self._answers(job, material) as answers:
            return await self._optimize_on_dspy(run, job, material, data=data, answers=answers)

    async def _optimize_on_dspy(
        self,
        run: JobRun,
        job: OptimizationJobRecord,
        material: Material,
        *,
        data: tuple[Dataset, Dataset | None],
        answers: ReplyStore,
    ) -> _SearchResult:
        train, test = data
        settings = job.configuration
        if settings.get("race"):
            raise DefinitionError(
                f"dspy's {job.optimizer} scores its candidates itself and cannot race them; leave "
                "'race' out of the configuration"
            )
        context = await self._environment.answered(run, answers)
        backend = await _optimizing(material)
        search = Search(test=test, insists=bool(settings.get("insist")), **_goal(settings))
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
        handle = await backend.create_program(material.choice.program)
        better = await backend.optimize_program(
            handle,
            work,
            context,
            on_progress=lambda event, details: _report_dspy(run, event, details),
        )
        judgement: Verdict | str | None = None
        if test is not None:
            original, improved = (
                BackendModule(each, backend) for each in (material.choice.program, better)
            )
            before = await aevaluate(original, test, material.metrics, context=context)
            after = await aevaluate(improved, test, material.metrics, context=context)
            judgement = judge(before, after, goal, alpha=search.alpha)
        verdict = judgement if isinstance(judgement, Verdict) else None
        values = {
            "best": {"label": f"dspy's {job.optimizer}", "metric": name, **verdict_values(verdict)}
        }
        keeps = (
            judgement is not None
            and not (verdict is not None and verdict.is_better)
            and not search.insists
        )
        message = str(verdict) if verdict is not None else f"dspy's {job.optimizer} made a program"
        if isinstance(judgement, str):
            message = f"{message}, and it could not be compared on the held-out rows: {judgement}"
        return _SearchResult(program=None if keeps else better, values=values, message=message)

    async def _answers(self, job: OptimizationJobRecord, material: Material) -> ReplyStore:
        concurrency = job.configuration.get("concurrency") or 8
        budget = Budget(**job.budget)
        answers = ReplyStore(
            material.journal, budget=budget, control=Control(), concurrency=concurrency
        )
        for entry in await material.journal.entries():
            if entry["kind"] in {"answer", "lost"}:
                answers.restore(entry)
        budget.begin(answers.elapsed)
        return answers


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


class _ResultRows:
    """The trials and the version with the result of a job, made when the job ends.

    They are made again if the program has changed in between.
    """

    def __init__(
        self, environment: JobEnvironment, job: OptimizationJobRecord, result: _SearchResult
    ) -> None:
        self._environment = environment
        self._job = job
        self._result = result

    async def changes(self) -> tuple[Mapping[str, Any], Sequence[Change]]:
        environment, program = self._environment, self._result.program
        trials = trial_rows(
            self._job,
            self._result.trials,
            new_id=environment.new_id,
            now=environment.clock.now(),
        )
        if program is None:
            return {}, trials
        values, changes = await self._version(program)
        return values, [*trials, *changes]

    async def _version(self, program: Program) -> tuple[Mapping[str, Any], Sequence[Change]]:
        store, job = self._environment.store, self._job
        record = await store.get(PROGRAM, id=job.program_id)
        if record is None:
            raise ConflictError("the program of this job is gone")
        existing = await self._newest(content_hash=program.content_hash)
        version = existing or await self._new(program)
        changes: list[Change] = [] if existing is not None else [Insert(version)]
        # a change that somebody has made since the job began stays
        if record.current_version_id == job.program_version_id:
            values = {"current_version_id": version.id, "updated_at": self._environment.clock.now()}
            expected = {"current_version_id": job.program_version_id}
            changes.append(Update(resource=PROGRAM, id=record.id, values=values, expected=expected))
        return {"result_version_id": version.id}, changes

    async def _newest(self, **where: Any) -> ProgramVersionRecord | None:
        query = Query(where={"program_id": self._job.program_id, **where}, limit=1)
        versions = await self._environment.store.select(PROGRAM_VERSION, query)
        return versions[0] if versions else None

    async def _new(self, program: Program) -> ProgramVersionRecord:
        newest, now = await self._newest(), self._environment.clock.now()
        return ProgramVersionRecord(
            id=self._environment.new_id(),
            workspace=self._job.workspace,
            created_at=now,
            updated_at=now,
            program_id=self._job.program_id,
            number=1 if newest is None else newest.number + 1,
            content_hash=program.content_hash,
            definition=program.definition(),
            assignment=dict(program.assignment),
            parent_id=self._job.program_version_id,
            made_by=f"job {self._job.id}",
        )


def _split(data: Dataset, settings: Mapping[str, Any]) -> tuple[Dataset, Dataset | None]:
    share = settings.get("holdout", _HOLDOUT)
    if not share or len(data) < _ENOUGH:
        return data, None
    test, train = data.split(share, seed=settings.get("seed") or 0)
    return train, test


def _goal(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search is after, as far as the settings of a job say it."""
    values = {name: settings.get(name) for name in ("maximize", "subject_to", "alpha", "on_error")}
    return {name: value for name, value in values.items() if value is not None}


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


def _of_outcome(outcome: Outcome[Module], program: Program) -> _SearchResult:
    better = replace(program, **_winner(outcome, program))
    is_same = better.content_hash == program.content_hash
    return _SearchResult(
        program=None if is_same else better,
        values=outcome_values(outcome),
        message=outcome.conclusion,
        trials=trial_columns(outcome),
    )


def _winner(outcome: Outcome[Module], program: Program) -> dict[str, Any]:
    winner = outcome.program.to_program(program.name)
    return {
        "signature": winner.signature,
        "root": winner.root,
        "space": winner.space,
        "assignment": winner.assignment,
    }


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
