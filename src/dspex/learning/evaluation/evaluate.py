"""Score a program on every example."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dspex.errors import DefinitionError, describe, suggest
from dspex.execution.context import RunContext, current, without_run
from dspex.execution.modules import Module, module_of
from dspex.language.programs import Program
from dspex.language.records import Example
from dspex.learning.evaluation.dataset import Dataset, check_rows
from dspex.learning.evaluation.latency import run_seconds
from dspex.learning.evaluation.metric import Metric, check_metric, metric_name, score_of
from dspex.learning.evaluation.report import Report, Row
from dspex.sync import run

Metrics = Metric | Mapping[str, Metric]


async def aevaluate(  # noqa: PLR0913  # how to run, by name
    program: Module | Program,
    dataset: Dataset,
    metric: Metrics,
    *,
    context: RunContext | None = None,
    concurrency: int = 8,
    repeats: int = 1,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Score `program` on every example and return one row each, in dataset order.

    Rows are read through the signature of the program: the text "true" of a csv is True in a `bool` field.
    A failing example becomes a row with `error` set and no score. It neither stops its siblings nor counts as zero;
    `Report.mean` is over scored rows and says how many.

    Args:
        program: what to score.
        dataset: what to score it on.
        metric: a metric, or several by name of which the first is the main one.
        context: the surroundings of all runs; those in force here by default.
        concurrency: how many examples are under way at once; 1 for exact times on a model that answers one at a time.
        repeats: how often each example is run; each time with another seed, where the model takes one. There is a row
            for each run, and intervals are over examples, because runs of one example are not independent.
        on_row: told of each row as it is finished, so in no particular order.

    Raises:
        DefinitionError: the dataset has no rows or lacks an input of the program, or `metric` raises or reads a field
            that `program` does not produce.
    """
    module = module_of(program)
    surroundings = without_run(context or current())
    scoring = _Scoring(module, metrics_by_name(metric), surroundings)
    scoring.check(dataset)
    rows_read = dataset.typed(module.contract())
    started = surroundings.clock.monotonic_ns()
    count = len(dataset) * _at_least_one(repeats, "repeats")
    rows: list[Row | None] = [None] * count
    work = iter(range(count))

    async def worker(work: Iterator[int]) -> None:
        for place in work:
            index, repeat = divmod(place, repeats)
            rows[place] = row = await scoring.row(index, rows_read[index], repeat)
            if on_row is not None:
                on_row(row)

    await _together([worker(work) for _ in range(min(_at_least_one(concurrency, "concurrency"), count))])
    return Report(
        rows=tuple(row for row in rows if row is not None),
        metrics=tuple(scoring.metrics),
        dataset=dataset.name,
        checksum=dataset.checksum,
        seconds=(surroundings.clock.monotonic_ns() - started) / 1e9,
        seed=surroundings.seed or 0,
    )


def evaluate(  # noqa: PLR0913  # how to run, by name
    program: Module | Program,
    dataset: Dataset,
    metric: Metrics,
    *,
    context: RunContext | None = None,
    concurrency: int = 8,
    repeats: int = 1,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Score `program` on every example; the synchronous twin of `aevaluate`, for scripts and notebooks.

    It takes what `aevaluate` takes.

    Raises:
        DefinitionError: as `aevaluate` does.
        ConfigurationError: called on an event loop of dspex, where `await aevaluate(...)` is needed.
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


async def _together(workers: list[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker)
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None


def _is_cancelled() -> bool:
    """Whether this task is to end; a cancellation that leaks out of a module's own work says nothing of it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _at_least_one(value: int, name: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise DefinitionError(f"{name} is a whole number and at least 1, not {value!r}")
    return value


def metrics_by_name(metric: Metrics) -> dict[str, Metric]:
    """Return one metric or several by their names.

    Raises:
        DefinitionError: there are no metrics, or one is not a function of an example and a prediction.
    """
    metrics = dict(metric) if isinstance(metric, Mapping) else {metric_name(metric): metric}
    if not metrics:
        raise DefinitionError("no metric was given; pass a function such as dspex.exact_match")
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
                    f"the program needs {name!r}, and {dataset.name!r} has no such field.{hint} It has: "
                    f"{', '.join(dataset.fields)}"
                )

    async def row(self, index: int, example: Example, repeat: int) -> Row:
        inputs = {name: example[name] for name in self.module.contract().input_fields if name in example}
        context, clock = self.context, self.context.clock
        if repeat:
            context = replace(context, seed=(context.seed or 0) + repeat)
        started = clock.monotonic_ns()
        try:
            prediction = await self.module.acall(context, **inputs)
        except DefinitionError:
            raise  # a wrong declaration fails every row
        except (Exception, asyncio.CancelledError) as error:  # whatever a user's module raises is this row's result
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            seconds = (clock.monotonic_ns() - started) / 1e9
            message = describe(error)
            return Row(index=index, repeat=repeat, example=example, error=message, seconds=seconds)
        seconds = (clock.monotonic_ns() - started) / 1e9
        return Row(
            index=index,
            repeat=repeat,
            example=example,
            outputs=prediction.to_dict(),
            scores={name: score_of(metric, example, prediction) for name, metric in self.metrics.items()},
            seconds=run_seconds(prediction.trace, seconds),
            usage=prediction.usage,
            trace_id=prediction.trace.trace_id,
        )
