"""`dspex job ID`: show one job, or cancel, pause or resume it."""

from pathlib import Path
from typing import Any
from uuid import UUID

import click

from dspex.bootstrap import Services
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.framework.store import Query
from dspex.operations.jobs.inputs import JobRef
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, show_json, table


@click.command("job")
@click.argument("job_id")
@click.option("--cancel", "step", flag_value="cancel", help="Cancel it.")
@click.option("--pause", "step", flag_value="pause", help="Pause it; answers so far are kept.")
@click.option(
    "--resume", "step", flag_value="resume", help="Queue it again after a pause or failure."
)
@state_option
@json_option
def job_command(*, job_id: str, step: str | None, state_dir: Path | None, as_json: bool) -> int:
    """Show a job with all its attributes, or cancel, pause or resume it."""
    try:
        key = UUID(job_id)
    except ValueError:
        raise InvalidError(f"{job_id!r} is not an id; `dspex jobs` lists them") from None

    async def work(services: Services) -> dict[str, Any]:
        for queue, resource in QUEUES.items():
            rows = await services.operations.list(resource, Query(where={"id": key}, limit=1))
            if not rows:
                continue
            job = rows[0]
            if step is not None:
                action = next(
                    action for action in DOMAIN.actions if action.name == f"{step}_{queue}"
                )
                job = await services.operations.perform(action, JobRef(id=key))
            return {"kind": queue, **resource.values_of(job)}
        raise NotFoundError(f"no job has the id {job_id!r}; `dspex jobs` lists them")

    job_values = with_store(state_dir, work)
    if as_json:
        show_json(job_values)
    else:
        rows = [
            {"what": name, "value": value}
            for name, value in job_values.items()
            if value not in (None, {}, [])
        ]
        click.echo(table(rows, ("what", "value")))
    return 0
