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
