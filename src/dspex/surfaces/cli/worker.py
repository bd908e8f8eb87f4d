"""`dspex worker`: run the jobs of the database."""

import asyncio
import os
import signal
import socket
import threading
from typing import Any

import click

from dspex.bootstrap import run_job_process, run_worker
from dspex.bootstrap.logs import set_up_logs
from dspex.surfaces.cli.options import adapter_option, model_option, settings_of, state_option
from dspex.surfaces.cli.output import say
from dspex.surfaces.cli.targets import code_root


@click.command("worker")
@click.option(
    "--concurrency",
    "job_concurrency",
    type=click.IntRange(1, 256),
    help="Jobs of one kind at once (4).",
)
@click.option("--until-idle", is_flag=True, help="Exit when all jobs have ended.")
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
def worker_command(
    *,
    until_idle: bool,
    attached: bool,
    channel: int | None,
    **flags: Any,
) -> int:
    """Run the jobs of the database (evaluations, optimizations) with this folder's code.

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
        await run_worker(
            settings, code=code_root(), stopping=stopping, say=say, ends_idle=until_idle
        )

    asyncio.run(work())
    return 0


def _stop_at_eof(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: this thread would hold its lock when the process ends
        pass
    loop.call_soon_threadsafe(stopping.set)
