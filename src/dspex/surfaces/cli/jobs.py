"""`dspex jobs`: the evaluations and optimizations of the database."""

from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.operations.domain import QUEUES
from dspex.operations.framework.store import Query
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, show_json, table

_COLUMNS = ("created_at", "kind", "status", "waiting", "progress", "id")


@click.command("jobs")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@state_option
@json_option
def jobs_command(*, limit: int, state_dir: Path | None, as_json: bool) -> int:
    """List evaluations and optimizations, newest first, with the reasons for waiting."""

    async def work(services: Services) -> list[dict[str, Any]]:
        jobs = []
        for queue, resource in QUEUES.items():
            rows = await services.operations.list(resource, Query(limit=limit))
            jobs += [_row(queue, job) for job in rows]
        return sorted(jobs, key=lambda row: str(row["id"]), reverse=True)[:limit]

    rows = with_store(state_dir, work)
    if as_json:
        show_json(rows)
    else:
        click.echo(table(rows, _COLUMNS) if rows else "no jobs yet")
    return 0


def _row(queue: str, job: Any) -> dict[str, Any]:
    names = ("created_at", "status", "waiting", "progress", "id")
    return {"kind": queue, **{name: getattr(job, name) for name in names}}
