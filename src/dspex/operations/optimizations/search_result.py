"""The result of a search or a promotion, and the rows that store it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.errors import ConflictError
from dspex.language.programs import Program
from dspex.operations.evaluations.job_environment import JobEnvironment
from dspex.operations.framework.store import Change, Insert, Query, Update
from dspex.operations.optimizations.records import OptimizationJobRecord
from dspex.operations.optimizations.results import trial_rows
from dspex.operations.programs.records import PROGRAM, PROGRAM_VERSION, ProgramVersionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationResult:
    """The better program, None if there is none; columns and message of the job; its trials."""

    program: Program | None
    values: Mapping[str, Any]
    message: str
    trials: Sequence[Mapping[str, Any]] = ()


class ResultRows:
    """The trials and the version with the result of a job, made when the job ends.

    They are made again if the program has changed in between.
    """

    def __init__(
        self, environment: JobEnvironment, job: OptimizationJobRecord, result: OptimizationResult
    ) -> None:
        """Take the environment of jobs, the job, and its result."""
        self._environment = environment
        self._job = job
        self._result = result

    async def changes(self) -> tuple[Mapping[str, Any], Sequence[Change]]:
        """Return further values of the job, and the changes; see `Done`."""
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
