"""The job that checks a trial: one for the trial and the rows, however often it is asked for."""

from typing import Any, Final

from dspex.errors import ConflictError, NotBetterError
from dspex.execution.modules.code import CodeRoot
from dspex.language.programs import Program
from dspex.operations.datasets.actions import dataset_of
from dspex.operations.datasets.records import DATASET, DatasetRecord
from dspex.operations.evaluations.code_revision import needs_of
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Match, Update
from dspex.operations.jobs.actions import enqueue
from dspex.operations.jobs.job_engine import JobEngine
from dspex.operations.optimizations.inputs import PromoteTrial, held_out_share
from dspex.operations.optimizations.records import (
    OPTIMIZATION_JOB,
    TRIAL,
    OptimizationJobRecord,
    TrialRecord,
)
from dspex.operations.programs.records import PROGRAM, PROGRAM_VERSION
from dspex.operations.programs.stored_programs import current_version, find_program

_ALPHA: Final = 0.05
_BUSY: Final = ("queued", "running", "paused")


async def promote(
    operations: Operations, request: PromoteTrial, *, engine: JobEngine
) -> OptimizationJobRecord:
    """Return the job that checks a trial; see `promote_trial`."""
    trial = await operations.row(TRIAL, request.trial_id)
    search = await operations.row(OPTIMIZATION_JOB, trial.optimization_job_id)
    data = await _held_out(operations, request, trial=trial, search=search)
    if (existing := await _existing(operations, trial, data)) is not None:
        return existing
    job = await _new_job(operations, trial, search, data=data)
    claim = Update(
        resource=TRIAL,
        id=trial.id,
        values={"promotion_id": job.id, "updated_at": job.created_at},
        expected={"promotion_id": trial.promotion_id},
    )
    try:
        return await enqueue(operations, OPTIMIZATION_JOB, job, engine=engine, changes=[claim])
    except ConflictError:  # the same request was faster
        trial = await operations.row(TRIAL, trial.id)
        if (existing := await _existing(operations, trial, data)) is None:
            raise
        return existing


async def _held_out(
    operations: Operations,
    request: PromoteTrial,
    *,
    trial: TrialRecord,
    search: OptimizationJobRecord,
) -> DatasetRecord:
    """Return the data set with the rows to compare on.

    Raises:
        InvalidError: the trial cannot become a version, or there are no such rows.
        NotFoundError: there is no such data set.
    """
    if not trial.is_final or trial.assignment is None:
        why = "its values are unknown" if trial.assignment is None else "it may not win the search"
        raise invalid("trial_id", str(trial.id), "another trial", message=why, constraint="state")
    if request.dataset_id is not None or request.dataset is not None:
        return await dataset_of(operations, request.dataset_id, request.dataset)
    data = await operations.row(DATASET, search.dataset_id)
    if not held_out_share(data.row_count, search.configuration):
        message = "its search has held out no rows; name a data set that it has not seen"
        raise invalid("dataset", None, "a data set", message=message, constraint="job")
    return data


async def _existing(
    operations: Operations, trial: TrialRecord, data: DatasetRecord
) -> OptimizationJobRecord | None:
    """Return the job that compares, or has compared, a trial on `data`; None if there is none.

    Raises:
        NotBetterError: it has, and the program is still the same.
        ConflictError: the trial is being compared on other rows.
    """
    job = await operations.store.get(OPTIMIZATION_JOB, id=trial.promotion_id)
    if job is None:
        return None
    if job.dataset_id != data.id:
        if job.status in _BUSY:
            raise ConflictError(
                f"trial {trial.number} is being compared on another data set by the job {job.id}: "
                "cancel it first"
            )
        return None
    if job.error is not None and job.error["code"] == NotBetterError.code:
        program = await find_program(operations, job.program_id)
        if program.current_version_id == job.program_version_id:
            raise NotBetterError(job.error["message"])
    return None if job.status in {"failed", "cancelled"} else job


async def _new_job(
    operations: Operations,
    trial: TrialRecord,
    search: OptimizationJobRecord,
    *,
    data: DatasetRecord,
) -> OptimizationJobRecord:
    program = await find_program(operations, trial.program_id)
    PROGRAM.step("execute", program.status)
    version = await current_version(operations, program)
    versions = [version]
    if search.judge_version_id is not None:
        versions.append(await operations.row(PROGRAM_VERSION, search.judge_version_id))
    values = [
        Program.from_dict({"definition": each.definition, "assignment": each.assignment})
        for each in versions
    ]
    code = operations.services.get(CodeRoot)
    return OptimizationJobRecord(
        **operations.new_row(),
        actor=operations.actor.name,
        program_id=program.id,
        program_version_id=version.id,
        dataset_id=data.id,
        metrics=search.metrics,
        judge_version_id=search.judge_version_id,
        judge_model=search.judge_model,
        optimizer=search.optimizer,
        budget={},
        configuration=await _configuration(operations, search, data),
        needs=needs_of(values, search.metrics, code),
        progress={},
        trial_id=trial.id,
    )


async def _configuration(
    operations: Operations, search: OptimizationJobRecord, data: DatasetRecord
) -> dict[str, Any]:
    """Return the settings of the search that a comparison needs, with its level of significance.

    The n-th comparison of trials of one program on the same rows has alpha / (n (n + 1)): together
    these add up to alpha, so that trying one trial after another finds nothing by chance alone.
    """
    names = ("concurrency", "maximize", "subject_to", "on_error")
    settings = {name: search.configuration[name] for name in names if name in search.configuration}
    earlier = {
        "program_id": search.program_id,
        "dataset_id": data.id,
        "trial_id": Match((("is_null", False),)),
        "status": (*_BUSY, "completed", "failed"),
    }
    number = 1 + await operations.store.count(OPTIMIZATION_JOB, earlier)
    alpha = search.configuration.get("alpha", _ALPHA)
    return {**settings, "alpha": alpha / (number * (number + 1))}
