"""`dspex eval`: score a program on data and store every call."""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import click

from dspex.bootstrap import Services
from dspex.error_text import quantity, suggest
from dspex.errors import DefinitionError, DspexError, InputError, StorageError
from dspex.failures import frames_text
from dspex.language.records import Usage
from dspex.language.signatures import Signature
from dspex.learning.evaluation import Dataset, Metric, Report, aevaluate
from dspex.learning.evaluation.breakdown import breakdown, check_columns
from dspex.learning.evaluation.export import to_csv, to_html, worst_rows
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.optimizers.prompts import program_prompts
from dspex.operations.evaluations.records import EvaluationRecord
from dspex.operations.evaluations.results import record_evaluation
from dspex.operations.executions.recorded_module import RecordedModule
from dspex.operations.programs.stored_programs import find_program, program_value
from dspex.surfaces.cli.breakdown import breakdown_tables
from dspex.surfaces.cli.complete import complete_target
from dspex.surfaces.cli.files import write_text_file
from dspex.surfaces.cli.metrics import (
    find_judge,
    judge_model_option,
    judge_option,
    metric_option,
    metric_targets,
    metrics_of,
)
from dspex.surfaces.cli.options import (
    find_program_target,
    run_options,
    settings_of,
    warn,
    with_services,
    workspace_option,
)
from dspex.surfaces.cli.output import say, show_json
from dspex.surfaces.cli.progress import Progress
from dspex.surfaces.cli.table import short_id, table
from dspex.surfaces.cli.targets import Target, code_root

T = TypeVar("T")
_MOST_PLACES = 3


@click.command("eval")
@click.argument("target", shell_complete=complete_target)
@click.argument("data", type=click.Path(path_type=Path))
@metric_option
@judge_option
@judge_model_option
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Only the rows with this value."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first rows, at most this many.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="The rows that run at once.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How often to run each row.",
)
@click.option(
    "--judge-repeats",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How often the judge scores each answer, to show how steady it is.",
)
@click.option(
    "--slice-by", metavar="COLUMN", help="Show the mean for each value of this column as well."
)
@click.option("--pass-at", type=float, help="Show the share of rows with at least this score.")
@click.option(
    "--label",
    metavar="COLUMN",
    help="Compare the metrics with this column, in which people have rated the answers.",
)
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write a page with all rows to this file."
)
@click.option("--csv", type=click.Path(path_type=Path), help="Write all rows to this file.")
@click.option(
    "--min",
    "minimum",
    type=float,
    help="Exit with 1 if the mean is lower, or too many rows failed.",
)
@click.option(
    "--max-failed", type=click.IntRange(0), help="How many rows may fail; with --min, 0 by default."
)
@workspace_option
@run_options
def eval_command(
    *,
    target: str,
    data: Path,
    metric: tuple[str, ...],
    judge: str | None,
    judge_model: str | None,
    where: tuple[str, ...],
    limit: int | None,
    concurrency: int,
    repeats: int,
    judge_repeats: int,
    slice_by: str | None,
    pass_at: float | None,
    label: str | None,
    html: Path | None,
    csv: Path | None,
    minimum: float | None,
    max_failed: int | None,
    backend: str | None,
    model: str | None,
    adapter: str | None,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Score TARGET on DATA (csv, jsonl or json) and show the mean with its 95% interval."""
    code = code_root()
    check_writable(html, csv)
    program_target = find_program_target(target, state_dir)
    rows = select_rows(data, where, limit=limit)
    judge_target = find_judge(judge, judge_model, code)
    request = _Request(
        target=program_target,
        rows=rows,
        metrics=metrics_of(metric, code, judge=judge_target),
        metric_targets=metric_targets(metric, judge_target),
        judge=judge_target,
        judge_model=judge_model,
        backend=backend,
        concurrency=concurrency,
        repeats=repeats,
        judge_repeats=judge_repeats,
        parts=_parts(slice_by=slice_by, pass_at=pass_at, label=label),
    )
    check_columns(rows.fields, request.parts)
    report, prompts, record = with_services(
        settings_of(model=model, adapter=adapter, state_dir=state_dir),
        partial(_score, request),
        workspace=workspace,
    )
    parts = breakdown(report, **request.parts)
    title = f"{target} on {report.dataset}"
    write(html, lambda: to_html(report, title, prompts=prompts, parts=parts))
    write(csv, lambda: to_csv(report))
    _show(report, html, parts=parts, record=record, as_json=as_json)
    unmet = _unmet_limits(report, minimum, max_failed)
    for problem in unmet:
        say(problem)
    return 1 if unmet else 0


def _parts(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _show(
    report: Report,
    html: Path | None,
    *,
    parts: Mapping[str, Any],
    record: EvaluationRecord | None,
    as_json: bool,
) -> None:
    if as_json:
        key = None if record is None else record.id
        show_json({**report.to_dict(), **parts, "evaluation_id": key})
        return
    _show_report(report, html)
    for text in breakdown_tables(parts):
        click.echo(f"\n{text}")
    if record is not None:
        say(f"stored: dspex evaluation show {short_id(record.id)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What is to be scored, and how."""

    target: Target
    rows: Dataset
    metrics: dict[str, Metric | JudgeMetric]
    metric_targets: list[str]
    judge: Target | None
    judge_model: str | None
    backend: str | None
    concurrency: int
    repeats: int
    judge_repeats: int
    parts: dict[str, Any]


async def _score(
    request: _Request, services: Services
) -> tuple[Report, dict[str, str], EvaluationRecord | None]:
    """Return the report, the prompts of the program, and the stored evaluation."""
    program = await load_target(services, request.target)
    warn_of_labels(program.signature, request.rows)
    module = RecordedModule(services.operations, program, backend=request.backend)
    metrics, judge_module, judge = dict(request.metrics), None, request.judge
    if judge is not None:
        judge_program = await load_target(services, judge)
        model = request.judge_model
        judge_module = RecordedModule(services.operations, judge_program, model=model)
        metrics[judge.name] = JudgeMetric.of(judge_module, name=judge.name, model=model)
    with Progress("evaluating", len(request.rows) * request.repeats, "row") as progress:
        report = await aevaluate(
            module,
            request.rows,
            metrics,
            context=services.context,
            concurrency=request.concurrency,
            repeats=request.repeats,
            judge_repeats=request.judge_repeats,
            on_row=progress.step,
        )
    record = await try_to_store(_store(request, services, report, modules=(module, judge_module)))
    return report, program_prompts(program), record


async def _store(
    request: _Request,
    services: Services,
    report: Report,
    *,
    modules: tuple[RecordedModule, RecordedModule | None],
) -> EvaluationRecord:
    module, judge = modules
    return await record_evaluation(
        services.operations,
        report,
        program=await module.stored(),
        rows=request.rows,
        metrics=request.metric_targets,
        judge=None if judge is None else await judge.stored(),
        configuration={
            "concurrency": request.concurrency,
            "repeats": request.repeats,
            **({"judge_repeats": request.judge_repeats} if request.judge_repeats > 1 else {}),
            **request.parts,
        },
    )


async def try_to_store(work: Awaitable[T]) -> T | None:
    """Return what `work` stores; if it cannot be stored, warn, because the result is shown."""
    try:
        return await work
    except DspexError as error:
        warn(f"the result is not stored: {error.message}")
        return None


def warn_of_labels(signature: Signature, rows: Dataset) -> None:
    """Warn of rows whose expected outputs do not fit the signature, and of misspelled columns."""
    others = [name for name in rows.fields if name not in signature.fields]
    for name in signature.output_fields:
        if name not in rows.fields and (hint := suggest(name, others)):
            warn(f"no column is named {name!r}, so this output is not compared.{hint}")
    mismatches = []
    for index, row in enumerate(rows):
        expected = {name: row[name] for name in signature.output_fields if name in row}
        try:
            signature.validate_outputs(expected)
        except InputError as error:
            problems = [problem for problem in error.fields if problem.field in expected]
            mismatches += [
                f"row {index}: {problem.path}: {problem.message}" for problem in problems[:1]
            ]
    if mismatches:
        warn(
            f"the program cannot answer what {len(mismatches)} of "
            f"{quantity(len(rows), 'row')} expected; {mismatches[0]}"
        )


def _unmet_limits(report: Report, minimum: float | None, max_failed: int | None) -> list[str]:
    """Return the limits that the report exceeds; failed rows do not count in the mean."""
    problems, total = [], len(report.rows)
    if report.scored == 0:
        problems.append(f"none of {quantity(total, 'row')} could be scored")
    if minimum is not None and not report.mean >= minimum:  # also true for NaN
        problems.append(f"{report.mean:.3f} is below the minimum of {minimum:g}")
    limit = 0 if max_failed is None and minimum is not None else max_failed
    if limit is not None and report.failed > limit:
        hint = "" if max_failed is not None else "; --max-failed says how many may"
        problems.append(
            f"{report.failed} of {quantity(total, 'row')} failed, and {limit} may{hint}"
        )
    return problems


def write(file: Path | None, text: Callable[[], str]) -> None:
    """Write the text to `file`, unless it is None.

    Raises:
        StorageError: the file cannot be written.
    """
    if file is None:
        return
    write_text_file(file, text())


def check_writable(*files: Path | None) -> None:
    """Check that the files can be written, before any model is called.

    Raises:
        StorageError: a file cannot be written.
    """
    for file in files:
        if file is None:
            continue
        problem = None
        if file.is_dir():
            problem = "it is a folder"
        elif not file.absolute().parent.is_dir():
            problem = "there is no such folder"
        elif not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
            problem = "permission denied"
        if problem is not None:
            raise StorageError(f"{str(file)!r} cannot be written: {problem}")


async def load_target(services: Services, target: Target) -> Any:
    """Return the program of a target, from code or from the database."""
    if target.program is not None:
        return target.program
    return await program_value(
        services.operations, await find_program(services.operations, name=target.name)
    )


def select_rows(data: Path, where: tuple[str, ...], *, limit: int | None) -> Dataset:
    """Return the rows of a file that meet all conditions, at most `limit`.

    Raises:
        DefinitionError: the file cannot be read, or no row meets the conditions.
    """
    rows = Dataset.from_file(data)
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise DefinitionError(f"--where takes COLUMN=VALUE, not {condition!r}")
        rows = rows.where(**{column: _parse_value(rows, column, value)})
    return rows if limit is None else rows[:limit]


def _parse_value(rows: Dataset, column: str, text: str) -> object:
    """Return the value of `column` whose JSON is `text` (1, true, null), or else the text."""
    values = (value for value in rows.column(column) if not isinstance(value, str))
    return next((value for value in values if json.dumps(value, default=str) == text), text)


def _cost(usage: Usage) -> str:
    return "unknown" if usage.cost_usd is None else f"${usage.cost_usd:.6f}"


def _show_report(report: Report, html: Path | None) -> None:
    usage = report.usage
    cost = _cost(usage)
    judges = {"judge cost": _cost(report.judge_usage)} if report.judge_usage.calls else {}
    rows = [
        {
            "metric": name,
            "mean": f"{report.mean_of(name):.3f}",
            "95% interval": str(report.interval(name)),
            "rows": f"{report.scored} scored, {report.failed} failed",
            "p50": f"{report.p50:.2f} s",
            "p95": f"{report.p95:.2f} s",
            "tokens": f"{usage.input_tokens}+{usage.output_tokens}",
            "cost": cost,
            **judges,
        }
        for name in report.metrics
    ]
    click.echo(table(rows, list(rows[0])))
    if worst := worst_rows(report):
        say("\n".join(("worst rows", *(f"  {line}" for line in worst))))
    places = {frames_text(row.frames): row.index for row in reversed(report.rows) if row.frames}
    for text, index in sorted(places.items(), key=itemgetter(1))[:_MOST_PLACES]:
        say(f"row {index} failed at\n{text}")
    say(f"report: {html or '--html FILE writes one with every row'}")
