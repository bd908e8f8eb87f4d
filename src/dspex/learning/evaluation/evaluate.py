"""Score a program on every example of a dataset."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dspex.error_text import suggest
from dspex.errors import DefinitionError, describe
from dspex.execution.context import RunContext, current, without_run
from dspex.execution.modules import Module, module_of
from dspex.execution.retrieval.row_files import join_names
from dspex.failures import user_frames
from dspex.language.programs import Program
from dspex.language.records import Example
from dspex.language.records.prediction import Outputs
from dspex.learning.evaluation.dataset import Dataset, check_rows
from dspex.learning.evaluation.latency import run_seconds
from dspex.learning.evaluation.metric import Metric, check_metric, metric_name, score_of
from dspex.learning.evaluation.report import Report, Row
from dspex.sync import run

Metrics = Metric[Outputs] | Mapping[str, Metric[Outputs]]


async def aevaluate(
    program: Module[Outputs] | Program,
    dataset: Dataset,
    metric: Metrics[Outputs],
    *,
    context: RunContext | None = None,
    concurrency: int = 8,
    repeats: int = 1,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Score `program` on every example and return one row each, in dataset order.

    Texts are parsed by the types of the signature: "true" from a csv is True in a `bool` field. An
    example that fails becomes a row with `error` set and no score. It neither stops the others nor
    counts as zero; `Report.mean` is over scored rows only.

    Args:
        program: the program to score.
        dataset: the examples.
        metric: a metric, or several by name; the first one is the main metric.
        context: the context of all runs; by default the current one.
        concurrency: how many examples run at once; 1 measures times on a sequential model.
        repeats: the runs of each example, each with another seed if the model accepts one. Each run
            has its row; intervals are over examples, because runs of one example are not
            independent.
        on_row: called with each finished row, in order of completion.

    Raises:
        DefinitionError: the dataset is empty or lacks an input of the program, or `metric` raises
            or reads a field that `program` does not produce.
    """
    module = module_of(program)
    surroundings = without_run(context or current())
    scoring = _Scoring(module, metrics_by_name(metric), surroundings)
    scoring.check(dataset)
    rows_read = dataset.typed(module.contract())
    started_at, started = surroundings.clock.now(), surroundings.clock.monotonic_ns()
    count = len(dataset) * _at_least_one(repeats, "repeats")
    rows: list[Row | None] = [None] * count
    work = iter(range(count))

    async def worker(work: Iterator[int]) -> None:
        for place in work:
            index, repeat = divmod(place, repeats)
            rows[place] = row = await scoring.row(index, rows_read[index], repeat)
            if on_row is not None:
                on_row(row)

    await _run_workers(
        [worker(work) for _ in range(min(_at_least_one(concurrency, "concurrency"), count))]
    )
    return Report(
        rows=tuple(row for row in rows if row is not None),
        metrics=tuple(scoring.metrics),
        dataset=dataset.name,
        checksum=dataset.checksum,
        seconds=(surroundings.clock.monotonic_ns() - started) / 1e9,
        seed=surroundings.seed or 0,
        started_at=started_at,
    )


def evaluate(
    program: Module[Outputs] | Program,
    dataset: Dataset,
    metric: Metrics[Outputs],
    *,
    context: RunContext | None = None,
    concurrency: int = 8,
    repeats: int = 1,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Score `program` on every example; the synchronous form of `aevaluate`.

    Raises:
        DefinitionError: as for `aevaluate`.
        ConfigurationError: called on an event loop of dspex; use `await aevaluate(...)`.
    """
    return run(
        aevaluate(
            program,
            dataset,
            metric,
            context=context,
            concurrency=concurrency,
            repeats=repeats,
            on_row=on_row,
        )
    )


async def _run_workers(workers: list[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker)
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None


def _is_cancelled() -> bool:
    """Return whether this task is being cancelled, as opposed to a task inside a module."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _at_least_one(value: int, name: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise DefinitionError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def metrics_by_name(metric: Metrics) -> dict[str, Metric]:
    """Return one or more metrics by name.

    Raises:
        DefinitionError: the mapping is empty, or a metric is not a function of example and
            prediction.
    """
    metrics = dict(metric) if isinstance(metric, Mapping) else {metric_name(metric): metric}
    if not metrics:
        raise DefinitionError("no metrics; pass a function such as dspex.exact_match")
    for name, function in metrics.items():
        check_metric(name, function)
    return metrics


@dataclass(frozen=True, slots=True)
class _Scoring:
    module: Module
    metrics: dict[str, Metric]
    context: RunContext

    def check(self, dataset: Dataset) -> None:
        check_rows(dataset)
        if not len(dataset):
            raise DefinitionError(f"{dataset.name!r} has no rows, so there is nothing to evaluate")
        for name, field in self.module.contract().input_fields.items():
            if field.is_required and name not in dataset.fields:
                hint = suggest(name, dataset.fields)
                raise DefinitionError(
                    f"the program needs {name!r}, and {dataset.name!r} has no such field.{hint} It "
                    f"has: {join_names(dataset.fields)}"
                )

    async def row(self, index: int, example: Example, repeat: int) -> Row:
        inputs = {
            name: example[name] for name in self.module.contract().input_fields if name in example
        }
        context, clock = self.context, self.context.clock
        if repeat:
            context = replace(context, seed=(context.seed or 0) + repeat)
        started = clock.monotonic_ns()
        try:
            prediction = await self.module.acall(context, **inputs)
        except DefinitionError:
            raise  # a wrong declaration fails every row
        except (
            Exception,
            asyncio.CancelledError,
        ) as error:  # any error of a user's module is the result of its row
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            seconds = (clock.monotonic_ns() - started) / 1e9
            return Row(
                index=index,
                repeat=repeat,
                example=example,
                error=describe(error),
                frames=tuple(user_frames(error)),
                seconds=seconds,
            )
        seconds = (clock.monotonic_ns() - started) / 1e9
        return Row(
            index=index,
            repeat=repeat,
            example=example,
            outputs=prediction.to_dict(),
            scores={
                name: score_of(metric, example, prediction) for name, metric in self.metrics.items()
            },
            seconds=run_seconds(prediction.trace, seconds),
            usage=prediction.usage,
            trace_id=prediction.trace.trace_id,
        )
