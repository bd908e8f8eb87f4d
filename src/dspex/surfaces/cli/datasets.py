"""`dspex datasets`: the stored data sets."""

from pathlib import Path

import click

from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli.list import filters_argument, query_of, sort_option, stored_rows
from dspex.surfaces.cli.options import state_option
from dspex.surfaces.cli.output import json_option, show_rows

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
    rows = stored_rows(DOMAIN["dataset"], query, _COLUMNS, state_dir=state_dir)
    show_rows(
        rows,
        _COLUMNS,
        as_json=as_json,
        empty="no data set is stored here yet; `dspex dataset add NAME FILE` stores one",
    )
    return 0
