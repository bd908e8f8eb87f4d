"""Evaluations as jobs: finished rows are kept, and any worker can do the rest."""

from dspex.error_text import quantity
from dspex.learning.evaluation import Report
from dspex.operations.evaluations.job_environment import JobEnvironment
from dspex.operations.evaluations.parts import EvaluationParts, watched
from dspex.operations.evaluations.records import EVALUATION, EVALUATION_PART, EvaluationPartRecord
from dspex.operations.evaluations.results import report_values
from dspex.operations.evaluations.row_scores import rows_of_job, score_rows
from dspex.operations.jobs import Done, JobRun


class EvaluationHandler:
    """Scores a program version on a data set, itself or in parts on all workers."""

    def __init__(self, environment: JobEnvironment) -> None:
        """Take the environment of jobs."""
        self._environment = environment

    async def __call__(self, run: JobRun, /) -> Done:
        """Score what is not scored yet, and sum up."""
        material = await self._environment.material(run, EVALUATION)
        settings = run.job.configuration
        data = rows_of_job(material.data, settings)
        parts = EvaluationParts(self._environment, run, data)
        if await parts.prepare(material.journal):
            rows = await parts.rows()
        else:
            rows = await score_rows(
                self._environment, run, material, data=data, indexes=range(len(data))
            )
        report = Report(
            rows=tuple(rows[index] for index in range(len(data))),
            metrics=tuple(material.metrics),
            dataset=data.name,
            checksum=data.checksum,
            started_at=run.job.started_at,
        )
        values = report_values(report, has_judge=material.has_judge, configuration=settings)
        mean = (
            "no row could be scored"
            if not report.scored
            else f"{report.metrics[0]} {report.mean:.3f} {report.interval()}"
        )
        failed = f", {report.failed} failed" if report.failed else ""
        return Done(values=values, message=f"{mean} over {quantity(report.scored, 'row')}{failed}")


class EvaluationPartHandler:
    """Scores one part of an evaluation, whose rows stay in the journal of the part."""

    def __init__(self, environment: JobEnvironment) -> None:
        """Take the environment of jobs."""
        self._environment = environment

    async def __call__(self, run: JobRun, /) -> Done:
        """Score what is not scored yet, as long as the evaluation is to go on."""
        part = run.job
        assert isinstance(part, EvaluationPartRecord)  # noqa: S101  # the queue has no others
        async with watched(self._environment, run, part):
            material = await self._environment.material(run, EVALUATION_PART)
            rows = await score_rows(
                self._environment,
                run,
                material,
                data=rows_of_job(material.data, part.configuration),
                indexes=range(part.first_row, part.end_row),
            )
        return Done(message=f"{quantity(len(rows), 'row')} scored")
