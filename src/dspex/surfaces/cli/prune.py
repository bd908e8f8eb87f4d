"""`dspex prune`: delete old executions."""

from pathlib import Path

import click

from dspex.bootstrap import Services
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, show_json


@click.command("prune")
@click.option(
    "--days",
    "keep_days",
    type=click.IntRange(1, 100_000),
    help="Delete executions older than this.",
)
@click.option(
    "--count",
    "keep_count",
    type=click.IntRange(1),
    help="Keep this many of each program, the newest.",
)
@state_option
@json_option
def prune_command(
    *, keep_days: int | None, keep_count: int | None, state_dir: Path | None, as_json: bool
) -> int:
    """Delete executions older than keep_days or beyond keep_count; a server does so every hour.

    Limits of a program or its workspace override the flags. Programs with an active job are
    skipped.
    """

    async def work(services: Services) -> int:
        return await services.retention.tick()

    deleted = with_store(state_dir, work, keep_days=keep_days, keep_count=keep_count)
    show_json({"deleted": deleted}) if as_json else click.echo(f"deleted {deleted} executions")
    return 0
