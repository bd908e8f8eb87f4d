"""`dspex datasets`: the stored data sets."""

from collections.abc import Sequence
from pathlib import Path

import click

from dspex.bootstrap import Services
from dspex.operations.datasets.records import DatasetRecord
from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli.list import filters_argument, query_of, sort_option
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, show_json, table

_COLUMNS = ("name", "version", "split", "row_count", "source", "id")


@click.command("datasets")
@filters_argument
@sort_option
@state_option
@json_option
def datasets_command(
    *, filters: tuple[str, ...], sort: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """List the stored data sets, newest first or by --sort; FILTER is as in `dspex list`."""
    query = query_of(DOMAIN["dataset"], filters, sort, limit=200)

    async def work(services: Services) -> Sequence[DatasetRecord]:
        rows: Sequence[DatasetRecord] = await services.operations.list(DOMAIN["dataset"], query)
        return rows

    rows = [{name: getattr(row, name) for name in _COLUMNS} for row in with_store(state_dir, work)]
    if as_json:
        show_json(rows)
    else:
        click.echo(
            table(rows, _COLUMNS)
            if rows
            else "no data set is stored here yet; `dspex dataset add NAME FILE` stores one"
        )
    return 0
