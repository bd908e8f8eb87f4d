"""`dspex workers`: the worker processes of a state folder."""

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
    """Show the worker processes of each running dspex (a server or a run) on this state folder."""
    folder = read_settings(flags={"state_dir": state_dir}, warn=warn).state_dir / WORKERS
    processes = read_statuses(folder)
    if as_json:
        show_json(msgspec.to_builtins(processes))
    elif not processes:
        click.echo(
            f"no running process has workers listed in {folder}; `dspex serve` and runs with "
            "workers list them"
        )
    else:
        click.echo("\n\n".join(_process_text(process) for process in processes))
    return 0


def _process_text(process: ProcessStatus) -> str:
    age = (datetime.now(UTC) - process.told_at).total_seconds()  # noqa: TID251  # for display
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
        "answered, "
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
