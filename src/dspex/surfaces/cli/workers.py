"""`dspex workers`: who works for the processes of this state folder."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from dspex.bootstrap import WORKERS
from dspex.execution.workers import PoolStats
from dspex.execution.workers.status_file import ProcessStatus, read_statuses
from dspex.settings import read_settings
from dspex.surfaces.cli.options import state_option, warn
from dspex.surfaces.cli.output import json_option, show_json, table

COLUMNS = ("worker", "role", "state", "pid", "memory", "busy", "served", "restarts", "why")


@click.command("workers")
@state_option
@json_option
def workers_command(*, state_dir: Path | None, as_json: bool) -> int:
    """Show the worker processes of every running dspex on this state folder: a server, or a run under way."""
    folder = read_settings(flags={"state_dir": state_dir}, warn=warn).state_dir / WORKERS
    found = read_statuses(folder)
    if as_json:
        show_json(msgspec.to_builtins(found))
    elif not found:
        click.echo(
            f"no running process tells of workers in {folder}; `dspex serve` does, and so does a run that has any"
        )
    else:
        click.echo("\n\n".join(_process(one) for one in found))
    return 0


def _process(told: ProcessStatus) -> str:
    age = (datetime.now(UTC) - told.told_at).total_seconds()  # noqa: TID251  # an age on a screen
    head = click.style(f"dspex {told.what}, pid {told.pid}", bold=True) + f", heard of {max(age, 0):.1f} s ago"
    pools = [_pool(pool) for pool in told.pools]
    return "\n\n".join([head, *pools]) if pools else f"{head}\n  no pool yet: workers start when a program needs them"


def _pool(pool: PoolStats) -> str:
    head = (
        f"pool {pool.name}: circuit {pool.breaker}, {pool.queued} queued, {pool.answered} answered, "
        f"{pool.failed} failed, {pool.rejected} rejected, {pool.restarts} restarts"
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
    return "\n".join(f"  {line}" for line in [head, *table(rows, COLUMNS).splitlines()])
