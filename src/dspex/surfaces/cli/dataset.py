"""`dspex dataset`: store, show, check and sample data sets."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dspex.bootstrap import Services
from dspex.learning.evaluation.row_files import read_rows
from dspex.operations.datasets.actions import dataset_of
from dspex.operations.datasets.records import DatasetRecord
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.operations import Operations
from dspex.surfaces.cli.do import visible_values
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, show_json, table

if TYPE_CHECKING:
    from dspex.operations.framework.action import Action

T = TypeVar("T")
_ACTIONS = {action.name: action for action in DOMAIN.actions}
split_option = click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="train",
    show_default=True,
)


@click.group("dataset")
def dataset_command() -> None:
    """Store, show, check and sample data sets."""


@dataset_command.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@split_option
@state_option
@json_option
def add_command(*, name: str, file: Path, split: str, state_dir: Path | None, as_json: bool) -> int:
    """Store the rows of FILE (csv, jsonl or json) as NAME, or as its next version."""
    values = {"name": name, "rows": read_rows(file), "split": split}
    return _create("create_dataset", state_dir, values, as_json=as_json)


@dataset_command.command("from-executions")
@click.argument("name")
@click.argument("program")
@click.option("--status", default="completed", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True)
@split_option
@state_option
@json_option
def from_executions_command(*, state_dir: Path | None, as_json: bool, **values: Any) -> int:
    """Store the inputs and outputs of PROGRAM's executions as NAME."""
    return _create("dataset_from_executions", state_dir, values, as_json=as_json)


@dataset_command.command("check")
@click.argument("dataset", metavar="NAME")
@click.option("--program", help="The stored program that the rows must fit.")
@click.option(
    "--signature", help="The signature that the rows must fit, such as 'question -> answer'."
)
@state_option
@json_option
def check_command(*, state_dir: Path | None, as_json: bool, **values: Any) -> int:
    """Check whether the rows fit a program or a signature; exits with 1 if any does not."""
    check = _perform("validate_dataset", state_dir, values)
    if as_json:
        show_json(visible_values(check))
    else:
        click.echo(f"{check.valid_rows} rows fit, {check.invalid_rows} do not")
        if check.problems:
            click.echo(table(check.problems, ["row", "path", "message"]))
    return 1 if check.invalid_rows else 0


@dataset_command.command("sample")
@click.argument("dataset", metavar="NAME")
@click.option("--count", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@state_option
def sample_command(*, state_dir: Path | None, **values: Any) -> int:
    """Draw rows and print them as JSON; the same seed draws the same rows."""
    show_json(_perform("sample_dataset", state_dir, values).rows)
    return 0


@dataset_command.command("show")
@click.argument("name")
@state_option
def show_command(*, name: str, state_dir: Path | None) -> int:
    """Print the newest version of NAME as JSON, with all its rows."""

    async def work(operations: Operations) -> DatasetRecord:
        return await dataset_of(operations, None, name)

    show_json(visible_values(_with_operations(state_dir, work)))
    return 0


def _create(name: str, state_dir: Path | None, values: dict[str, Any], *, as_json: bool) -> int:
    dataset = _perform(name, state_dir, values)
    if as_json:
        show_json(visible_values(dataset))
    else:
        size = f"{dataset.row_count} rows ({dataset.split})"
        click.echo(f"{dataset.name} version {dataset.version}: {size}, id {dataset.id}")
    return 0


def _perform(name: str, state_dir: Path | None, values: dict[str, Any]) -> Any:
    action: Action[Any, Any] = _ACTIONS[name]
    return _with_operations(
        state_dir, lambda operations: operations.perform(action, action.input(**values))
    )


def _with_operations(state_dir: Path | None, work: Callable[[Operations], Awaitable[T]]) -> T:
    async def call(services: Services) -> T:
        return await work(services.operations)

    return with_store(state_dir, call)
