"""The environment of job handlers: the rows of a job, and a context whose calls are journaled."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from dspex.clock import Clock
from dspex.errors import DspexError, InternalError, NotFoundError
from dspex.execution.backends import BackendModule, Backends, Choice
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, Module
from dspex.language.programs import Program
from dspex.learning.evaluation import Dataset, Metric
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.optimizers import Journal
from dspex.learning.optimizers.journal import Entry
from dspex.learning.optimizers.reply_store import ReplayedModel, ReplyStore
from dspex.operations.datasets.records import DATASET
from dspex.operations.evaluations.job_model import JobModel
from dspex.operations.evaluations.metrics import metrics_named
from dspex.operations.executions.executor import ContextProvider
from dspex.operations.framework.store import Store
from dspex.operations.jobs import JobRun
from dspex.operations.jobs.job import JobResource, ProgramJobRecord
from dspex.operations.programs.declarations import module_of
from dspex.operations.programs.records import (
    PROGRAM,
    PROGRAM_VERSION,
    ProgramRecord,
    ProgramVersionRecord,
)

OpenJournal = Callable[[JobResource[Any], UUID, int], Journal]
"""Opens the journal of a job: its kind, its id, and the turn of the writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What one job works with."""

    record: ProgramRecord
    program: Program
    choice: Choice
    data: Dataset
    metrics: dict[str, Metric | JudgeMetric]
    journal: Journal
    has_judge: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnvironment:
    """The collaborators of all handlers. Owned by one event loop.

    `context` is that of this process, `context_provider` makes it that of a workspace.
    """

    store: Store
    backends: Backends
    context: RunContext
    context_provider: ContextProvider
    open_journal: OpenJournal
    clock: Clock
    new_id: Callable[[], UUID]
    code: CodeRoot | None = None

    async def material(self, run: JobRun, resource: JobResource[Any]) -> Material:
        """Load what the job names.

        Raises:
            NotFoundError: a row is gone.
            DefinitionError: the program or a metric cannot be used here.
        """
        job = run.job
        if not isinstance(job, ProgramJobRecord):
            raise InternalError(f"{type(job).__name__} is not a job on a program")
        judge = await self._judge(job)
        record = await self.store.get(PROGRAM, id=job.program_id)
        version = await self.store.get(PROGRAM_VERSION, id=job.program_version_id)
        data = await self.store.get(DATASET, id=job.dataset_id)
        if record is None or version is None or data is None:
            raise NotFoundError("the program or the data set of this job is gone")
        program = program_of(version)
        return Material(
            record=record,
            program=program,
            choice=self.backends.choose(program, stored=record.backend),
            data=Dataset.from_rows(data.rows, name=data.name),
            metrics=metrics_named(job.metrics, self.code, judge=judge),
            journal=RunJournal(self.open_journal(resource, job.id, job.turn), run),
            has_judge=job.judge_version_id is not None,
        )

    def module(self, choice: Choice) -> Module:
        """Return a program as a module that runs where its choice of a backend says."""
        return module_of(choice, self.code)

    async def _judge(self, job: ProgramJobRecord) -> Callable[[str], JudgeMetric]:
        """Return the function that makes the judge of a job a metric of this name.

        Raises:
            NotFoundError: a judge was named when the job was created, and is gone.
        """
        version = await self.store.get(PROGRAM_VERSION, id=job.judge_version_id)
        record = None
        if version is not None:
            record = await self.store.get(PROGRAM, id=version.program_id)

        def judge(name: str) -> JudgeMetric:
            if version is None or record is None:
                raise NotFoundError(f"the judge {name!r} of this job is gone")
            choice = self.backends.choose(program_of(version), stored=record.backend)
            module: Module = BackendModule(choice.program, choice.backend)
            return JudgeMetric.of(module, name=name, model=job.judge_model)

        return judge

    async def stoppable(self, run: JobRun) -> RunContext:
        """Return a context whose calls end with the run, and end it where the model is away."""
        context = await self.context_provider(run.job.workspace, self.context)
        resolve = context.models
        return msgspec.structs.replace(
            context,
            model=None if context.model is None else JobModel(context.model, run),
            models=None if resolve is None else lambda text: JobModel(resolve(text), run),
            cancellation=run.cancellation,
        )

    async def answered(self, run: JobRun, answers: ReplyStore) -> RunContext:
        """Return such a context in which, besides, no call is made that the journal can answer."""
        context = await self.stoppable(run)
        resolve = context.models
        return msgspec.structs.replace(
            context,
            model=None if context.model is None else ReplayedModel(context.model, answers),
            models=None if resolve is None else lambda text: ReplayedModel(resolve(text), answers),
        )


def program_of(version: ProgramVersionRecord) -> Program:
    """Return the program of a stored version."""
    return Program.from_dict({"definition": version.definition, "assignment": version.assignment})


class RunJournal:
    """A journal that ends the run when it cannot be written.

    What is not written down must not be built upon.
    """

    def __init__(self, journal: Journal, run: JobRun) -> None:
        """Take the journal, and the run that it belongs to."""
        self._journal = journal
        self._run = run

    async def entries(self) -> Any:
        """Return all entries, oldest first."""
        return await self._journal.entries()

    async def append(self, entry: Entry) -> None:
        """Add an entry."""
        try:
            await self._journal.append(entry)
        except DspexError as error:
            self._run.give_up(error)
            raise asyncio.CancelledError from error  # nobody may be left to receive an error
        self._run.has_progress = True
