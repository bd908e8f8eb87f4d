"""Score a program on every example of a dataset."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import msgspec

from dspex.argument_values import Count
from dspex.arguments import checks_values
from dspex.error_text import suggest
from dspex.errors import DefinitionError, describe
from dspex.execution.clients.rollout import Repetition
from dspex.execution.context import RunContext, current, without_run
from dspex.execution.modules import Module, module_of
from dspex.execution.retrieval.row_files import join_names
from dspex.failures import user_frames
from dspex.language.programs import Program
from dspex.language.records import Example, Prediction, Usage
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature
from dspex.learning.evaluation.dataset import Dataset, check_rows
from dspex.learning.evaluation.judge import Judgement, JudgeMetric, check_judge_inputs
from dspex.learning.evaluation.latency import run_seconds
from dspex.learning.evaluation.metric import Metric, check_metric, metric_name, score_of
from dspex.learning.evaluation.report import Report, Row
from dspex.sync import run

Scorer = Metric[Outputs] | Module[Any] | Program | JudgeMetric
"""A metric, or a program that scores the outputs of another one: a judge."""
Metrics = Scorer[Outputs] | Mapping[str, Scorer[Outputs]]


@checks_values
async def aevaluate(
    program: Module[Outputs] | Program,
    dataset: Dataset,
    metric: Metrics[Outputs],
    *,
    context: RunContext | None = None,
    concurrency: Count = 8,
    repeats: Count = 1,
    judge_repeats: Count = 1,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Score `program` on every example and return one row each, in dataset order.

    Texts are parsed by the types of the signature: "true" from a csv is True in a `bool` field. An
    example that fails (or its judge) becomes a row with `error` set and no score. It neither stops
    the others nor counts as zero; `Report.mean` is over scored rows only.

    Args:
        program: the program to score.
        dataset: the examples.
        metric: a metric or a judge (a program, see `Judge`), or several by name, the main first.
        context: the context of all runs; by default the current one.
        concurrency: how many examples run at once; 1 measures times on a sequential model.
        repeats: the runs of each example, each with a row and another seed if the model accepts
            one. Intervals are over examples: runs of one example are not independent.
        judge_repeats: how often a judge scores each answer, in new requests at its temperature.
            The mean is its score, and `judge_variance` says how steady it is.
        on_row: called with each finished row, in order of completion.

    Raises:
        DefinitionError: the dataset is empty or lacks an input of the program, or `metric` raises
            or reads a field that `program` does not produce.
        ConfigurationError: the model of a judge cannot be opened.
    """
    surroundings = without_run(context or current())
    scoring = _Scoring(module_of(program), metrics_by_name(metric), surroundings, judge_repeats)
    scoring.check(dataset)
    rows_read = dataset.typed(scoring.module.contract())
    started_at, started = surroundings.clock.now(), surroundings.clock.monotonic_ns()
    count = len(dataset) * repeats
    rows, work = list[Row | None]([None] * count), iter(range(count))

    async def worker(work: Iterator[int]) -> None:
        for place in work:
            index, repeat = divmod(place, repeats)
            rows[place] = row = await scoring.row(index, rows_read[index], repeat)
            if on_row is not None:
                on_row(row)

    await _run_workers([worker(work) for _ in range(min(concurrency, count))])
    return Report(
        rows=tuple(row for row in rows if row is not None),
        metrics=tuple(scoring.metrics),
        dataset=dataset.name,
        checksum=dataset.checksum,
        seconds=(surroundings.clock.monotonic_ns() - started) / 1e9,
        seed=surroundings.seed or 0,
        started_at=started_at,
    )


@checks_values
def evaluate(
    program: Module[Outputs] | Program,
    dataset: Dataset,
    metric: Metrics[Outputs],
    *,
    context: RunContext | None = None,
    concurrency: Count = 8,
    repeats: Count = 1,
    judge_repeats: Count = 1,
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
            judge_repeats=judge_repeats,
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


def _ends_evaluation(error: BaseException) -> bool:
    """Return whether an error of a module is not the result of its row.

    A wrong declaration fails every row. A cancellation counts if it is that of this task, as
    opposed to a task inside the module.
    """
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    is_cancellation = isinstance(error, asyncio.CancelledError)
    return isinstance(error, DefinitionError) or (is_cancellation and is_cancelled)


def metrics_by_name(metric: Metrics) -> dict[str, Metric | JudgeMetric]:
    """Return one or more metrics by name, programs as judges.

    Raises:
        DefinitionError: the mapping is empty, or a metric is neither a function of example and
            prediction nor a program with a score among its outputs.
    """
    scorers = dict(metric) if isinstance(metric, Mapping) else {_name_of(metric): metric}
    if not scorers:
        raise DefinitionError("no metrics; pass a function such as dspex.exact_match")
    metrics: dict[str, Metric | JudgeMetric] = {}
    for name, scorer in scorers.items():
        if isinstance(scorer, Module | Program):
            scorer = JudgeMetric.of(module_of(scorer), name=name)
        if not isinstance(scorer, JudgeMetric):
            check_metric(name, scorer)
        metrics[name] = scorer
    return metrics


def _name_of(scorer: Any) -> str:
    return scorer.name if isinstance(scorer, Program | JudgeMetric) else metric_name(scorer)


async def judge_or_score(
    metric: Metric | JudgeMetric,
    example: Example,
    prediction: Prediction,
    *,
    contract: Signature,
    context: RunContext,
) -> Judgement:
    """Return the score of any metric; that of a judge comes with its reason and usage.

    Raises:
        DefinitionError: the metric is broken, see `score_of`.
        DspexError: the judge failed.
    """
    if isinstance(metric, JudgeMetric):
        return await metric.judge(example, prediction, contract=contract, context=context)
    return Judgement(score=score_of(metric, example, prediction))


@dataclass(frozen=True, slots=True)
class _Scoring:
    module: Module
    metrics: dict[str, Metric | JudgeMetric]
    context: RunContext
    judge_repeats: int = 1

    def check(self, dataset: Dataset) -> None:
        check_rows(dataset)
        if not len(dataset):
            raise DefinitionError(f"{dataset.name!r} has no rows, so there is nothing to evaluate")
        judges = [each for each in self.metrics.values() if isinstance(each, JudgeMetric)]
        if self.judge_repeats > 1 and not judges:
            raise DefinitionError(
                f"judge_repeats={self.judge_repeats} is for judges, and no metric is one: "
                f"{', '.join(self.metrics)}"
            )
        contract = self.module.contract()
        for name, field in contract.input_fields.items():
            if field.is_required and name not in dataset.fields:
                hint = suggest(name, dataset.fields)
                raise DefinitionError(
                    f"the program needs {name!r}, and {dataset.name!r} has no such field.{hint} It "
                    f"has: {join_names(dataset.fields)}"
                )
        for name, metric in self.metrics.items():
            if isinstance(metric, JudgeMetric):
                judge = metric.module.contract()
                check_judge_inputs(judge, name, contract=contract, fields=dataset.fields)
                metric.context(self.context)  # opens its model

    async def row(self, index: int, example: Example, repeat: int) -> Row:
        values = example.to_dict()
        names = self.module.contract().input_fields
        inputs = {name: values[name] for name in names if name in values}
        context, clock = self.context, self.context.clock
        if repeat:
            context = msgspec.structs.replace(context, seed=(context.seed or 0) + repeat)
        started = clock.monotonic_ns()
        try:
            prediction = await self.module.acall(context, **inputs)
        except (Exception, asyncio.CancelledError) as error:
            if _ends_evaluation(error):
                raise
            seconds = (clock.monotonic_ns() - started) / 1e9
            row = Row(index=index, repeat=repeat, example=example, seconds=seconds)
            return _failed(row, error)
        seconds = (clock.monotonic_ns() - started) / 1e9
        row = Row(
            index=index,
            repeat=repeat,
            example=example,
            outputs=prediction.to_dict(),
            scores={
                name: score_of(metric, example, prediction)
                for name, metric in self.metrics.items()
                if not isinstance(metric, JudgeMetric)
            },
            seconds=run_seconds(prediction.trace, seconds),
            usage=prediction.usage,
            trace_id=prediction.trace.trace_id,
        )
        if len(row.scores) == len(self.metrics):
            return row
        return await self._with_judgements(row, prediction, context)

    async def _with_judgements(self, row: Row, prediction: Prediction, context: RunContext) -> Row:
        """Return the row with the scores of the judges too, or with the error of one of them."""
        contract, judgements = self.module.contract(), dict[str, list[Judgement]]()
        for name, metric in self.metrics.items():
            if not isinstance(metric, JudgeMetric):
                continue
            try:
                judgements[name] = [
                    await metric.judge(
                        row.example, prediction, contract=contract, context=_again(context, number)
                    )
                    for number in range(self.judge_repeats)
                ]
            except (Exception, asyncio.CancelledError) as error:
                if _ends_evaluation(error):
                    raise
                row = _failed(row, error, f"the judge {name!r} failed: ")
                break
        series = {name: tuple(each.score for each in many) for name, many in judgements.items()}
        scores = {**row.scores, **{name: fmean(values) for name, values in series.items()}}
        names = [] if row.error is not None else list(self.metrics)
        return msgspec.structs.replace(
            row,
            scores={name: scores[name] for name in names},
            reasons={name: many[0].reason for name, many in judgements.items() if many[0].reason},
            judgements=series if names and self.judge_repeats > 1 else {},
            judge_usage=sum((each.usage for many in judgements.values() for each in many), Usage()),
        )


def _again(context: RunContext, number: int) -> RunContext:
    """Return the context of a further judgement, whose requests are new ones."""
    return context.with_wrapper(lambda model: Repetition(model, number)) if number else context


def _failed(row: Row, error: BaseException, what: str = "") -> Row:
    """Return the row with an error of a user's module, which is its result."""
    return msgspec.structs.replace(
        row, error=f"{what}{describe(error)}", frames=tuple(user_frames(error))
    )
