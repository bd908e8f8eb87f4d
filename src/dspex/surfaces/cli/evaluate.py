"""`dspex eval`: a program on data, every call stored."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.errors import DefinitionError, InvalidError, StorageError, boundary
from dspex.execution.modules import CodeRoot
from dspex.language.signatures import Signature
from dspex.learning.evaluation import Dataset, Metric, Report, aevaluate
from dspex.learning.evaluation.metric import metric_name
from dspex.learning.evaluation.metrics import METRICS
from dspex.learning.evaluation.writing import to_csv, to_html
from dspex.operations.resources import RecordedModule
from dspex.surfaces.cli.options import run_options, settings_of, warn, with_services
from dspex.surfaces.cli.output import say, show_json, table
from dspex.surfaces.cli.progress import Progress
from dspex.surfaces.cli.targets import Target, code_root, find_target

metric_option = click.option(
    "--metric", multiple=True, help=f"{', '.join(METRICS)} or file.py:function; several are scored, the first leads."
)


@click.command("eval")
@click.argument("target")
@click.argument("data", type=click.Path(path_type=Path))
@metric_option
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only the rows with this value.")
@click.option("--limit", type=click.IntRange(1), help="Only so many rows, the first ones.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, help="Run each row so many times.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page with all rows there.")
@click.option("--csv", "sheet", type=click.Path(path_type=Path), help="Write all rows there.")
@click.option("--min", "least", type=float, help="Exit with 1 where the mean is below this, or too many rows failed.")
@click.option("--max-failed", type=click.IntRange(0), help="So many rows may fail; with --min, none by default.")
@run_options
def eval_command(  # noqa: PLR0913  # one parameter for each flag
    *,
    target: str,
    data: Path,
    metric: tuple[str, ...],
    where: tuple[str, ...],
    limit: int | None,
    concurrency: int,
    repeats: int,
    page: Path | None,
    sheet: Path | None,
    least: float | None,
    max_failed: int | None,
    backend: str | None,
    model: str | None,
    adapter: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Score TARGET on DATA (csv, jsonl or json) and show the mean with its 95% interval."""
    code = code_root()
    check_writable(page, sheet)
    found, scoring, rows = find_target(target, code), metrics_of(metric, code), chosen_rows(data, where, limit=limit)

    async def work(services: Services) -> Report:
        program = await program_of_target(services, found)
        warn_of_labels(program.signature, rows)
        module = RecordedModule(services.operations, program, backend=backend)
        with Progress("evaluating", len(rows) * repeats) as progress:
            return await aevaluate(
                module,
                rows,
                scoring,
                context=services.context,
                concurrency=concurrency,
                repeats=repeats,
                on_row=progress.step,
            )

    report = with_services(settings_of(model=model, adapter=adapter, state_dir=state_dir), work)
    show_json(report.to_dict()) if as_json else _show(report)
    write(page, lambda: to_html(report, f"{target} on {report.dataset}"))
    write(sheet, lambda: to_csv(report))
    broken = _broken(report, least, max_failed)
    for said in broken:
        say(said)
    return 1 if broken else 0


def warn_of_labels(signature: Signature, rows: Dataset) -> None:
    """Print a warning where rows expect what a program of this signature can never answer."""
    unfit = []
    for index, row in enumerate(rows):
        expected = {name: row[name] for name in signature.output_fields if name in row}
        try:
            signature.validate_outputs(expected)
        except InvalidError as error:
            problems = [problem for problem in error.fields if problem.field in expected]
            unfit += [f"row {index}: {problem.path}: {problem.message}" for problem in problems[:1]]
    if unfit:
        warn(f"{len(unfit)} of {len(rows)} rows expect what the program cannot answer; {unfit[0]}")


def _broken(report: Report, least: float | None, max_failed: int | None) -> list[str]:
    """Return which limits do not hold; the mean is over the scored rows, so failed ones have a limit of their own."""
    broken, total = [], len(report.rows)
    if report.scored == 0:
        broken.append(f"none of the {total} rows could be scored")
    if least is not None and not report.mean >= least:  # a mean that is no number is not good enough
        broken.append(f"{report.mean:.3f} is below the minimum of {least:g}")
    allowed = 0 if max_failed is None and least is not None else max_failed
    if allowed is not None and report.failed > allowed:
        mend = "" if max_failed is not None else "; --max-failed says how many may"
        broken.append(f"{report.failed} of {total} rows failed, and {allowed} may{mend}")
    return broken


def write(file: Path | None, text: Callable[[], str]) -> None:
    """Write a text into a file, where one was asked for.

    Raises:
        StorageError: the file cannot be written.
    """
    if file is None:
        return
    with boundary(StorageError, f"{str(file)!r} cannot be written"):
        file.write_text(text(), encoding="utf-8")


def check_writable(*files: Path | None) -> None:
    """Refuse files that could not be written later, before anything is spent.

    Raises:
        StorageError: a file cannot be written.
    """
    for file in files:
        if file is None:
            continue
        said = None
        if file.is_dir():
            said = "it is a folder"
        elif not file.absolute().parent.is_dir():
            said = "there is no such folder"
        elif not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
            said = "permission denied"
        if said is not None:
            raise StorageError(f"{str(file)!r} cannot be written: {said}")


async def program_of_target(services: Services, target: Target) -> Any:  # noqa: ANN401  # a Program
    """Return the program that a target names, from code or from the store."""
    if target.program is not None:
        return target.program
    return await services.operations.program_value(await services.operations.program(name=target.name))


def metrics_of(given: Sequence[str], code: CodeRoot) -> dict[str, Metric]:
    """Return metrics by their names; exact_match where none is given.

    Raises:
        DefinitionError: there is no such metric, or two have one name.
    """
    found = [_metric_of(text, code) for text in given or ("exact_match",)]
    named = {metric_name(metric): metric for metric in found}
    if len(named) < len(found):
        raise DefinitionError(f"two metrics have one name; there is: {', '.join(map(metric_name, found))}")
    return named


def _metric_of(text: str, code: CodeRoot) -> Metric:
    """Return a metric by name, or a function in the code root.

    Raises:
        DefinitionError: there is no such metric.
    """
    if text in METRICS:
        return METRICS[text]
    if ":" not in text:
        raise DefinitionError(f"there is no metric {text!r}; use {', '.join(METRICS)}, or file.py:function")
    place, _, name = text.rpartition(":")
    found: Metric = code.load(f"{place.removesuffix('.py').replace('/', '.')}:{name}")
    if not callable(found):
        raise DefinitionError(f"{text!r} is no function; a metric is a function of (example, prediction)")
    return found


def chosen_rows(data: Path, where: tuple[str, ...], *, limit: int | None) -> Dataset:
    """Return the rows of a file that were asked for.

    Raises:
        DefinitionError: the file cannot be read, or no row is left.
    """
    rows = Dataset.from_file(data)
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise DefinitionError(f"--where takes COLUMN=VALUE, not {condition!r}")
        rows = rows.where(**{column: _written(rows, column, value)})
    return rows if limit is None else rows[:limit]


def _written(rows: Dataset, column: str, text: str) -> object:
    """Return the value of a column that is written as `text`: the 1, true or null of a json file is no text."""
    others = (value for value in rows.column(column) if not isinstance(value, str))
    return next((value for value in others if json.dumps(value, default=str) == text), text)


def _show(report: Report) -> None:
    usage = report.usage
    cost = "unknown" if usage.cost_usd is None else f"${usage.cost_usd:.6f}"
    figures = [
        {
            "metric": name,
            "mean": f"{report.mean_of(name):.3f}",
            "95% interval": str(report.interval(name)),
            "rows": f"{report.scored} scored, {report.failed} failed",
            "p50": f"{report.p50:.2f} s",
            "p95": f"{report.p95:.2f} s",
            "tokens": f"{usage.input_tokens}+{usage.output_tokens}",
            "cost": cost,
        }
        for name in report.metrics
    ]
    click.echo(table(figures, list(figures[0])))
    for row in [row for row in report.rows if row.error][:5]:
        say(f"row {row.index}: {row.error}")
