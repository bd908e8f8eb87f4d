"""Evaluations as jobs: finished rows are kept, and any worker can do the rest."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dspex.error_text import quantity
from dspex.errors import ExecutionError
from dspex.execution.backends import BackendModule
from dspex.execution.clients import Budget
from dspex.language.records import Usage
from dspex.learning.evaluation import Dataset, Report, Row, aevaluate
from dspex.learning.optimizers import Control, Journal
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.operations.evaluations.job_environment import JobEnvironment, Material
from dspex.operations.evaluations.records import EVALUATION
from dspex.operations.evaluations.results import report_values
from dspex.operations.jobs import Done, JobRun

_REPORTS = 20  # progress is reported at most this often


class EvaluationHandler:
    """Scores a program version on a data set."""

    def __init__(self, environment: JobEnvironment) -> None:
        """Take the environment of jobs."""
        self._environment = environment

    async def __call__(self, run: JobRun, /) -> Done:
        """Score what is not scored yet, and sum up."""
        material = await self._environment.material(run, EVALUATION)
        settings = run.job.configuration
        data = material.data[: settings["limit"]] if settings.get("limit") else material.data
        report = await self._report(
            run, material, data=data, concurrency=settings.get("concurrency") or 8
        )
        interval = report.interval()
        values = report_values(report, has_judge=material.has_judge, configuration=settings)
        mean = (
            "no row could be scored"
            if not report.scored
            else f"{report.metrics[0]} {report.mean:.3f} {interval}"
        )
        failed = f", {report.failed} failed" if report.failed else ""
        return Done(values=values, message=f"{mean} over {quantity(report.scored, 'row')}{failed}")

    async def _report(
        self, run: JobRun, material: Material, *, data: Dataset, concurrency: int
    ) -> Report:
        entries = await material.journal.entries()
        answers = ReplyStore(
            material.journal, budget=Budget(), control=Control(), concurrency=concurrency
        )
        rows: dict[int, Row] = {}
        for entry in entries:
            if entry["kind"] in {"answer", "lost"}:
                answers.restore(entry)
            elif entry["kind"] == "row":
                rows[entry["index"]] = _row(entry, data)
        remaining = [index for index in range(len(data)) if index not in rows]
        if remaining:
            recorder = _RowRecorder(run, material.journal, rows=rows, total=len(data))
            module = BackendModule(material.choice.program, material.choice.backend)
            async with recorder, answers:
                await aevaluate(
                    module,
                    data.pick(remaining),
                    material.metrics,
                    context=await self._environment.answered(run, answers),
                    concurrency=concurrency,
                    judge_repeats=run.job.configuration.get("judge_repeats") or 1,
                    on_row=lambda row: recorder.put(
                        msgspec.structs.replace(row, index=remaining[row.index])
                    ),
                )
        if lost := [index for index in range(len(data)) if index not in rows]:
            raise ExecutionError(
                f"the code of the program or of a metric cancelled itself on the rows {lost[:10]}"
            )
        return Report(
            rows=tuple(rows[index] for index in range(len(data))),
            metrics=tuple(material.metrics),
            dataset=data.name,
            checksum=data.checksum,
            started_at=run.job.started_at,
        )


class _RowRecorder:
    """Records finished rows in the order of completion, and reports progress."""

    def __init__(self, run: JobRun, journal: Journal, *, rows: dict[int, Row], total: int) -> None:
        self._run = run
        self._journal = journal
        self._rows = rows
        self._total = total
        self._queue: asyncio.Queue[Row | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def __aexit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if self._task is None:
            return
        if kind is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            return
        self._queue.put_nowait(None)
        await self._task

    def put(self, row: Row) -> None:
        self._queue.put_nowait(row)

    async def _keep(self) -> None:
        while (row := await self._queue.get()) is not None:
            await self._journal.append(_entry(row))
            self._rows[row.index] = row
            count = len(self._rows)
            if count % max(1, self._total // _REPORTS) == 0 or count == self._total:
                self._run.report(
                    f"{count} of {quantity(self._total, 'row')}",
                    done=count,
                    of=self._total,
                    **_figures(self._rows),
                )


def _figures(rows: Mapping[int, Row]) -> dict[str, Any]:
    scores: Sequence[float] = [row.score for row in rows.values() if row.score is not None]
    failed = sum(row.error is not None for row in rows.values())
    return {"mean": sum(scores) / len(scores) if scores else None, "failed": failed}


def _entry(row: Row) -> dict[str, Any]:
    return {
        **row.to_dict(),
        "kind": "row",
        "example": None,
        "usage": msgspec.to_builtins(row.usage),
        "judge_usage": msgspec.to_builtins(row.judge_usage),
    }


def _row(entry: Mapping[str, Any], data: Dataset) -> Row:
    return Row(
        index=entry["index"],
        example=data[entry["index"]],
        outputs=entry["outputs"],
        scores=entry["scores"],
        reasons=entry.get("reasons", {}),
        judgements=entry.get("judgements", {}),
        error=entry["error"],
        frames=tuple(entry.get("frames", ())),
        seconds=entry["seconds"],
        usage=msgspec.convert(entry["usage"], Usage),
        judge_usage=msgspec.convert(entry.get("judge_usage", {}), Usage),
        trace_id=entry["trace_id"],
    )
