"""`dspex programs`: the stored programs."""

from pathlib import Path

import click

from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli.list import filters_argument, query_of, sort_option, stored_rows
from dspex.surfaces.cli.options import state_option
from dspex.surfaces.cli.output import json_option, show_rows


@click.command("programs")
@filters_argument
@sort_option
@state_option
@json_option
def programs_command(
    *, filters: tuple[str, ...], sort: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """List the stored programs, newest first or by --sort; FILTER is as in `dspex list`."""
    query = query_of(DOMAIN["program"], filters, sort, limit=200)

    names = ("name", "status", "backend", "module", "execution_count", "last_executed_at", "id")
    rows = stored_rows(DOMAIN["program"], query, names, state_dir=state_dir)
    show_rows(
        rows,
        names,
        as_json=as_json,
        empty="no program is stored here yet; `dspex run file.py:name` stores one",
    )
    return 0
