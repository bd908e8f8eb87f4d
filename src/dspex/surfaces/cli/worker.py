"""`dspex worker start`: start a worker that runs jobs, and list the worker processes."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from dspex.bootstrap import WORKERS, Services, run_executions, run_job_process, run_worker
from dspex.bootstrap.logs import set_up_logs
from dspex.execution.workers import PoolStats
from dspex.execution.workers.status_file import ProcessStatus, read_statuses
from dspex.operations.domain import QUEUES
from dspex.operations.framework.store import Query
from dspex.operations.jobs.records import JOB_WORKER
from dspex.settings import read_settings
from dspex.surfaces.cli.group import SuggestingGroup
from dspex.surfaces.cli.options import (
    adapter_option,
    has_database,
    model_option,
    settings_of,
    state_option,
    warn,
    with_store,
)
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.table import short_id, table
from dspex.surfaces.cli.targets import code_root
from dspex.surfaces.cli.text_width import terminal_width

JOB_COLUMNS = ("worker", "host", "pid", "queues", "jobs", "heartbeat")
_MOST = 1000
_INDENT = "  "
COLUMNS = ("worker", "role", "state", "pid", "memory", "busy", "served", "restarts", "why")


@click.group("worker", cls=SuggestingGroup)
def worker_command() -> None:
    """Start a worker that runs jobs, and list the worker processes."""


@worker_command.command("start")
@click.option(
    "--concurrency",
    "job_concurrency",
    type=click.IntRange(1, 256),
    help="Jobs of one kind at once (4).",
)
@click.option("--until-idle", is_flag=True, help="Exit when there is nothing to do.")
@click.option(
    "--executions", is_flag=True, hidden=True, help="Only continue executions, until none is left."
)
@click.option(
    "--attached", is_flag=True, hidden=True, help="Exit when the standard input is closed."
)
@click.option(
    "--channel",
    type=int,
    hidden=True,
    help="Run jobs for the worker at the other end of this socket.",
)
@click.option(
    "--isolation", type=click.Choice(["inline", "process"]), help="Where programs of code run."
)
@model_option
@adapter_option
@state_option
def start_command(
    *,
    until_idle: bool,
    executions: bool,
    attached: bool,
    channel: int | None,
    **flags: Any,
) -> int:
    """Run the jobs of the database (evaluations, optimizations) with this folder's code.

    It also continues executions that have waited for people.

    Any number of workers may share a database (DSPEX_DATABASE_URL), on any host. A worker that is
    stopped (SIGTERM, Ctrl+C) returns its jobs to the queue; if it dies, other workers take them.
    """
    settings = settings_of(serves=True, **flags)
    set_up_logs(settings)

    if channel is not None:
        asyncio.run(
            run_job_process(
                settings, code=code_root(), channel=socket.socket(fileno=channel), say=say
            )
        )
        return 0

    async def work() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if attached:
            threading.Thread(target=_stop_at_eof, args=(loop, stopping), daemon=True).start()
        if executions:
            await run_executions(settings, code=code_root(), stopping=stopping, say=say)
            return
        await run_worker(
            settings, code=code_root(), stopping=stopping, say=say, ends_idle=until_idle
        )

    asyncio.run(work())
    return 0


def _stop_at_eof(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: this thread would hold its lock when the process ends
        pass
    loop.call_soon_threadsafe(stopping.set)


@worker_command.command("list")
@state_option
@json_option
def list_command(*, state_dir: Path | None, as_json: bool) -> int:
    """Show the workers that run jobs, and those that run programs of servers and commands.

    The first are in the database, from any host; the others belong to the processes of this state
    folder.
    """
    folder = read_settings(flags={"state_dir": state_dir}, warn=warn).state_dir / WORKERS
    processes = read_statuses(folder)
    jobs = with_store(state_dir, _job_workers) if has_database(state_dir) else []
    if as_json:
        processes_data = msgspec.to_builtins(processes)
        show_json({"job_workers": jobs, "processes": processes_data, "next": None})
        return 0
    texts = [_process_text(process) for process in processes]
    if jobs:
        head = click.style("workers for jobs", bold=True)
        texts.insert(0, f"{head}\n{table([_job_worker_row(row) for row in jobs], JOB_COLUMNS)}")
    click.echo(
        "\n\n".join(texts)
        or "no worker is running\n`dspex worker start` starts one for jobs\n"
        "`dspex serve` and runs start them for programs"
    )
    return 0


async def _job_workers(services: Services) -> list[dict[str, Any]]:
    """Return the workers that run jobs, each with the jobs that it runs."""
    store = services.operations.store
    workers = await store.select(JOB_WORKER, Query(where={"status": "alive"}, limit=_MOST))
    jobs: dict[str, list[str]] = {}
    for queue, resource in QUEUES.items():
        running = await store.select(resource, Query(where={"status": "running"}, limit=_MOST))
        for job in running:
            jobs.setdefault(job.worker, []).append(f"{queue} {short_id(job.id)}")
    return [{**JOB_WORKER.values_of(row), "jobs": jobs.get(str(row.id), [])} for row in workers]


def _job_worker_row(values: Mapping[str, Any]) -> dict[str, Any]:
    silence = (datetime.now(UTC) - values["updated_at"]).total_seconds()  # noqa: TID251  # display
    return {
        "worker": short_id(values["id"]),
        "host": values["host"],
        "pid": values["pid"],
        "queues": ", ".join(values["queues"]),
        "jobs": ", ".join(values["jobs"]) or "none",
        "heartbeat": f"{max(silence, 0):.0f} s ago",
    }


def _process_text(process: ProcessStatus) -> str:
    age = (datetime.now(UTC) - process.updated_at).total_seconds()  # noqa: TID251  # for display
    head = (
        click.style(f"dspex {process.what}, pid {process.pid}", bold=True)
        + f", updated {max(age, 0):.1f} s ago"
    )
    pools = [_pool_text(pool) for pool in process.pools]
    return (
        "\n\n".join([head, *pools])
        if pools
        else f"{head}\n  no pool yet: workers start when a program needs them"
    )


def _pool_text(pool: PoolStats) -> str:
    head = (
        f"pool {pool.name}: circuit {pool.breaker}, {pool.queued} queued, {pool.answered} "
        f"answered, {pool.failed} failed, {pool.rejected} rejected, {pool.restarts} restarts"
    )
    rows = [
        {
            "worker": worker.name,
            "role": worker.role,
            "state": worker.state,
            "pid": worker.pid,
            "memory": f"{worker.memory >> 20} MiB" if worker.memory else "",
            "busy": worker.busy,
            "served": worker.served,
            "restarts": worker.restarts,
            "why": worker.reason,
        }
        for worker in pool.workers
    ]
    width = terminal_width()
    lines = table(rows, COLUMNS, width=width and width - len(_INDENT)).splitlines()
    return "\n".join(f"{_INDENT}{line}" for line in [head, *lines])
