"""`dspex dataset`: add, list, show, validate and sample data sets."""

from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.execution.retrieval.row_files import read_rows
from dspex.operations.datasets.actions import create_dataset, sample_dataset, validate_dataset
from dspex.operations.framework.action import Action
from dspex.surfaces.cli.nouns import noun_group, show_result, visible_values
from dspex.surfaces.cli.options import operations_in, state_option, with_store, workspace_option
from dspex.surfaces.cli.output import json_option, show_json
from dspex.surfaces.cli.table import table

dataset_command = noun_group(
    "dataset", columns=("name", "version", "split", "row_count", "source", "created_at", "id")
)


@dataset_command.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="train",
    show_default=True,
    help="What the rows are for.",
)
@workspace_option
@state_option
@json_option
def add_command(*, file: Path, as_json: bool, **flags: Any) -> int:
    """Store the rows of FILE (csv, jsonl or json) as NAME, or as its next version."""
    dataset = _perform(create_dataset, rows=read_rows(file), **flags)
    show_result(create_dataset, dataset, as_json=as_json)
    return 0


@dataset_command.command("validate")
@click.argument("dataset", metavar="NAME")
@click.option("--program", help="The stored program that the rows must fit.")
@click.option(
    "--signature", help="The signature that the rows must fit, such as 'question -> answer'."
)
@workspace_option
@state_option
@json_option
def validate_command(*, as_json: bool, **flags: Any) -> int:
    """Check whether the rows fit a program or a signature; exits with 1 if any does not."""
    check = _perform(validate_dataset, **flags)
    if as_json:
        show_json(visible_values(check))
    else:
        click.echo(f"rows that fit: {check.valid_rows}; rows that do not: {check.invalid_rows}")
        if check.problems:
            click.echo(table(check.problems, ["row", "path", "message"]))
    return 1 if check.invalid_rows else 0


@dataset_command.command("sample")
@click.argument("dataset", metavar="NAME")
@click.option(
    "--count", type=click.IntRange(1), default=10, show_default=True, help="Rows to draw."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="The same seed draws the same rows.",
)
@workspace_option
@state_option
def sample_command(**flags: Any) -> int:
    """Draw rows and print them as JSON; the same seed draws the same rows."""
    show_json(_perform(sample_dataset, **flags).rows)
    return 0


def _perform(
    action: Action[Any, Any], *, state_dir: Path | None, workspace: str | None, **values: Any
) -> Any:
    async def work(services: Services) -> Any:
        operations = await operations_in(services, workspace)
        return await operations.perform(action, action.input(**values))

    return with_store(state_dir, work)
