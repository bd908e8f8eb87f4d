"""`dspex worker` runs jobs; `dspex jobs` and `dspex job ID` show them, cancel, pause and resume them."""

import asyncio
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from dspex.bootstrap import Services, run_job_process, run_worker
from dspex.bootstrap.logs import set_up_logs
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.resources import DOMAIN, Query
from dspex.operations.resources.job_inputs import JobRef
from dspex.operations.resources.jobs import QUEUES
from dspex.surfaces.cli.options import adapter_option, model_option, settings_of, state_option, with_store
from dspex.surfaces.cli.output import json_option, say, show_json, table
from dspex.surfaces.cli.targets import code_root

_COLUMNS = ("created_at", "kind", "status", "waiting", "progress", "id")


@click.command("worker")
@click.option("--concurrency", "job_concurrency", type=click.IntRange(1, 256), help="Jobs of one kind at once (4).")
@click.option("--until-idle", is_flag=True, help="End when every job has ended.")
@click.option("--attached", is_flag=True, hidden=True, help="End when the standard input is closed.")
@click.option("--channel", type=int, hidden=True, help="Run jobs for the worker at the other end of this socket.")
@click.option("--isolation", type=click.Choice(["inline", "process"]), help="Where programs of code run.")
@model_option
@adapter_option
@state_option
def worker_command(
    *,
    until_idle: bool,
    attached: bool,
    channel: int | None,
    **flags: Any,  # noqa: ANN401  # each is a setting
) -> int:
    """Run jobs of the database until interrupted: evaluations and optimizations, from this folder's code.

    Any number of workers may share a database (DSPEX_DATABASE_URL), on any host. What a worker has when it is asked to
    stop (SIGTERM, Ctrl+C), it hands back; what it has when it dies, the others take.
    """
    settings = settings_of(serves=True, **flags)
    set_up_logs(settings)

    if channel is not None:
        asyncio.run(run_job_process(settings, code=code_root(), channel=socket.socket(fileno=channel), say=say))
        return 0

    async def work() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if attached:
            threading.Thread(target=_until_closed, args=(loop, stopping), daemon=True).start()
        await run_worker(settings, code=code_root(), stopping=stopping, say=say, ends_idle=until_idle)

    asyncio.run(work())
    return 0


def _until_closed(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    while os.read(0, 4096):  # not through sys.stdin, whose lock this thread would hold when the process ends
        pass
    loop.call_soon_threadsafe(stopping.set)


@click.command("jobs")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@state_option
@json_option
def jobs_command(*, limit: int, state_dir: Path | None, as_json: bool) -> int:
    """List evaluations and optimizations, newest first, and why those wait that wait."""

    async def work(services: Services) -> list[dict[str, Any]]:
        found = []
        for queue, resource in QUEUES.items():
            rows = await services.operations.list(resource, Query(limit=limit))
            found += [_row(queue, job) for job in rows]
        return sorted(found, key=lambda row: str(row["id"]), reverse=True)[:limit]

    rows = with_store(state_dir, work)
    if as_json:
        show_json(rows)
    else:
        click.echo(table(rows, _COLUMNS) if rows else "there is no job yet")
    return 0


@click.command("job")
@click.argument("job_id")
@click.option("--cancel", "step", flag_value="cancel", help="Cancel it.")
@click.option("--pause", "step", flag_value="pause", help="Pause it; nothing that was answered is lost.")
@click.option("--resume", "step", flag_value="resume", help="Queue a paused or failed one again.")
@state_option
@json_option
def job_command(*, job_id: str, step: str | None, state_dir: Path | None, as_json: bool) -> int:
    """Show one job whole, or cancel, pause or resume it."""
    try:
        key = UUID(job_id)
    except ValueError:
        raise InvalidError(f"{job_id!r} is no id; `dspex jobs` shows them") from None

    async def work(services: Services) -> dict[str, Any]:
        for queue, resource in QUEUES.items():
            rows = await services.operations.list(resource, Query(where={"id": key}, limit=1))
            if not rows:
                continue
            job = rows[0]
            if step is not None:
                action = next(known for known in DOMAIN.actions if known.name == f"{step}_{queue}")
                job = await services.operations.perform(action, JobRef(id=key))
            return {"kind": queue, **resource.values_of(job)}
        raise NotFoundError(f"there is no job {job_id!r}; `dspex jobs` lists them")

    found = with_store(state_dir, work)
    if as_json:
        show_json(found)
    else:
        rows = [{"what": name, "value": value} for name, value in found.items() if value not in (None, {}, [])]
        click.echo(table(rows, ("what", "value")))
    return 0


def _row(queue: str, job: Any) -> dict[str, Any]:  # noqa: ANN401  # any kind of job
    names = ("created_at", "status", "waiting", "progress", "id")
    return {"kind": queue, **{name: getattr(job, name) for name in names}}
