"""`dspex executions`: the stored executions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from dspex.bootstrap import Services
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.programs.stored_programs import find_program
from dspex.surfaces.cli.list import filters_argument, query_of, sort_option
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, show_rows
from dspex.surfaces.cli.run import execution_json


@click.command("executions")
@filters_argument
@sort_option
@click.option("--program", help="Only the executions of this program.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@state_option
@json_option
def executions_command(  # one parameter for each flag
    *,
    filters: tuple[str, ...],
    sort: str | None,
    program: str | None,
    limit: int,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """List executions, newest first or by --sort; FILTER is as in `dspex list`."""
    query = query_of(DOMAIN["execution"], filters, sort, limit=limit)

    async def work(services: Services) -> Sequence[ExecutionRecord]:
        where = dict(query.where)
        if program is not None:
            where["program_id"] = (await find_program(services.operations, name=program)).id
        rows: Sequence[ExecutionRecord] = await services.operations.list(
            DOMAIN["execution"], replace(query, where=where)
        )
        return rows

    rows = [execution_json(row) for row in with_store(state_dir, work)]
    columns = ("created_at", "status", "inputs", "outputs", "duration_ms", "id")
    show_rows(rows, columns, as_json=as_json, empty="no execution is stored here yet")
    return 0
