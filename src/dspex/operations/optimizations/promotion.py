"""The check of a trial on rows that its search did not see."""

from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from dspex.error_text import quantity
from dspex.errors import DefinitionError, NotBetterError, NotFoundError
from dspex.execution.modules import Module
from dspex.language.programs import Program
from dspex.learning.evaluation import Dataset, Report, aevaluate
from dspex.learning.optimizers import Search
from dspex.learning.optimizers.verdict import judge
from dspex.operations.datasets.records import DATASET
from dspex.operations.evaluations.job_environment import JobEnvironment, Material, program_of
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Store
from dspex.operations.jobs import JobRun
from dspex.operations.optimizations.held_out import answers_of, declarations_of, goal_of, split
from dspex.operations.optimizations.records import (
    OPTIMIZATION_JOB,
    TRIAL,
    OptimizationJobRecord,
    TrialRecord,
)
from dspex.operations.optimizations.results import verdict_values
from dspex.operations.optimizations.search_result import OptimizationResult
from dspex.operations.programs.declarations import with_declarations, with_values_of
from dspex.operations.programs.records import PROGRAM_VERSION

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """A trial, the search that it is from, and the program and rows that the search began with."""

    trial: TrialRecord
    search: OptimizationJobRecord
    program: Program
    data: Dataset


class TrialCheck:
    """Compares a trial with the program as it is, on rows that the search of the trial did not see.

    Replies that the search has are not requested again.
    """

    def __init__(
        self,
        environment: JobEnvironment,
        run: JobRun,
        *,
        job: OptimizationJobRecord,
        material: Material,
    ) -> None:
        """Take the environment of jobs, and what this job works with."""
        self._environment = environment
        self._run = run
        self._job = job
        self._material = material

    async def result(self) -> OptimizationResult:
        """Return the trial as the better program.

        Raises:
            NotBetterError: the trial is not significantly better.
            DefinitionError: no row is left that the search has not seen.
        """
        origin = await self._origin()
        program = self._candidate(origin)
        label = f"trial {origin.trial.number}, {origin.trial.label}"
        subject: dict[str, Any] = {"trial": origin.trial.number, "label": origin.trial.label}
        if program.content_hash == self._material.program.content_hash:
            message = f"{label}, is the current version already"
            best = {**subject, "conclusion": message}
            return OptimizationResult(program=program, values={"best": best}, message=message)
        rows = _unseen(self._material.data, origin)
        self._run.report(f"{label}, is compared with the program on {quantity(len(rows), 'row')}")
        search = Search(**goal_of(self._job.configuration))
        goal = search.goal(list(self._material.metrics))
        verdict = judge(*await self._reports(origin, program, rows), goal, alpha=search.alpha)
        if isinstance(verdict, str):
            raise NotBetterError(f"{label}, could not be compared with the program: {verdict}")
        result = verdict_values(verdict)
        if not verdict.is_better:
            self._run.report(str(verdict), verdict=result)
            raise NotBetterError(f"{label}, does not become a version: {verdict}")
        return OptimizationResult(
            program=program, values={"best": {**subject, **result}}, message=str(verdict)
        )

    async def _origin(self) -> _Origin:
        store = self._environment.store
        trial = await _row(store, TRIAL, self._job.trial_id)
        search = await _row(store, OPTIMIZATION_JOB, trial.optimization_job_id)
        data = await _row(store, DATASET, search.dataset_id)
        return _Origin(
            trial=trial,
            search=search,
            program=program_of(await _row(store, PROGRAM_VERSION, search.program_version_id)),
            data=Dataset.from_rows(data.rows, name=data.name),
        )

    def _candidate(self, origin: _Origin) -> Program:
        declarations = declarations_of(origin.search.configuration)
        module = with_declarations(self._module(origin.program), declarations)
        return with_values_of(module.assign(origin.trial.assignment or {}), origin.program)

    def _module(self, program: Program) -> Module:
        choice = self._environment.backends.choose(program, stored=self._material.record.backend)
        return self._environment.module(choice)

    async def _reports(
        self, origin: _Origin, candidate: Program, rows: Dataset
    ) -> tuple[Report, Report]:
        answers = await answers_of(self._job, self._material)
        search = origin.search
        journal = self._environment.open_journal(OPTIMIZATION_JOB, search.id, search.turn)
        for entry in await journal.entries():
            if entry["kind"] == "answer":
                answers.restore(entry)
        async with answers:
            context = await self._environment.answered(self._run, answers)
            before, after = [
                await aevaluate(
                    self._module(program),
                    rows,
                    self._material.metrics,
                    context=context,
                    concurrency=self._job.configuration.get("concurrency") or 8,
                )
                for program in (self._material.program, candidate)
            ]
        return before, after


async def _row(store: Store, resource: Resource[T], key: UUID | None) -> T:
    row = await store.get(resource, id=key)
    if row is None:
        raise NotFoundError(f"the {resource.name.replace('_', ' ')} of this job is gone")
    return row


def _unseen(data: Dataset, origin: _Origin) -> Dataset:
    """Return the rows of `data` that the search has not been made from.

    Raises:
        DefinitionError: there is none.
    """
    train, _ = split(origin.data, origin.search.configuration)
    used = {index for _, index in train.duplicates(data)}
    rows = data.pick(index for index in range(len(data)) if index not in used)
    if not rows:
        raise DefinitionError(
            f"the search has seen all rows of {data.name!r}; name a data set with others"
        )
    return rows
