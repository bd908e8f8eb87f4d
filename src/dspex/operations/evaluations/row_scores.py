"""Scoring rows of a data set inside a job: each row is scored once, whoever does the rest."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dspex.error_text import quantity
from dspex.errors import ExecutionError
from dspex.execution.backends import BackendModule
from dspex.execution.clients import Budget
from dspex.language.records import Usage
from dspex.learning.evaluation import Dataset, Row, aevaluate
from dspex.learning.optimizers import Control, Journal
from dspex.learning.optimizers.journal import Entry
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.operations.evaluations.job_environment import JobEnvironment, Material
from dspex.operations.jobs import JobRun

REPORTS = 20  # progress is reported at most this often


def rows_of_job(data: Dataset, configuration: Mapping[str, Any]) -> Dataset:
    """Return the rows of a data set that an evaluation with this configuration scores."""
    limit = configuration.get("limit")
    return data[:limit] if limit else data


async def score_rows(
    environment: JobEnvironment,
    run: JobRun,
    material: Material,
    *,
    data: Dataset,
    indexes: Sequence[int],
) -> dict[int, Row]:
    """Return the results of the `indexes` rows of `data`, by index.

    The journal of the job says which ones are scored already, and keeps the others as they end.

    Raises:
        ExecutionError: the user's code has cancelled its own task.
    """
    settings = run.job.configuration
    concurrency = settings.get("concurrency") or 8
    answers = ReplyStore(
        material.journal, budget=Budget(), control=Control(), concurrency=concurrency
    )
    entries = await material.journal.entries()
    for entry in entries:
        if entry["kind"] in {"answer", "lost"}:
            answers.restore(entry)
    rows = scored_rows(entries, data)
    remaining = [index for index in indexes if index not in rows]
    if remaining:
        recorder = _RowRecorder(run, material.journal, rows=rows, total=len(indexes))
        module = BackendModule(material.choice.program, material.choice.backend)
        async with recorder, answers:
            await aevaluate(
                module,
                data.pick(remaining),
                material.metrics,
                context=await environment.answered(run, answers),
                concurrency=concurrency,
                judge_repeats=settings.get("judge_repeats") or 1,
                on_row=lambda row: recorder.put(
                    msgspec.structs.replace(row, index=remaining[row.index])
                ),
            )
    if lost := [index for index in indexes if index not in rows]:
        raise ExecutionError(
            f"the code of the program or of a metric cancelled itself on the rows {lost[:10]}"
        )
    return rows


def scored_rows(entries: Iterable[Entry], data: Dataset) -> dict[int, Row]:
    """Return the results in a journal, by the index of their row in `data`."""
    return {entry["index"]: _row(entry, data) for entry in entries if entry["kind"] == "row"}


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
            if count % max(1, self._total // REPORTS) == 0 or count == self._total:
                self._run.report(
                    f"{count:,} of {quantity(self._total, 'row')}",
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
