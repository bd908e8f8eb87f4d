"""`dspex programs`: the stored programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli.list import filters_argument, query_of, sort_option
from dspex.surfaces.cli.options import state_option, with_store
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

    async def work(services: Services) -> Sequence[Any]:
        rows: Sequence[Any] = await services.operations.list(DOMAIN["program"], query)
        return rows

    names = ("name", "status", "backend", "module", "execution_count", "last_executed_at", "id")
    rows = [{name: getattr(row, name) for name in names} for row in with_store(state_dir, work)]
    show_rows(
        rows,
        names,
        as_json=as_json,
        empty="no program is stored here yet; `dspex run file.py:name` stores one",
    )
    return 0
