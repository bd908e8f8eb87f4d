"""`dspex db`: migrate the database, delete old executions."""

from pathlib import Path

import click

from dspex.bootstrap import Services, migrate_database
from dspex.error_text import quantity
from dspex.settings import read_settings
from dspex.surfaces.cli.group import SuggestingGroup
from dspex.surfaces.cli.options import state_option, warn, with_store
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.sync import run


@click.group("db", cls=SuggestingGroup)
def db_command() -> None:
    """Migrate the database, delete old executions."""


@db_command.command("migrate")
@click.option(
    "--to",
    metavar="REV",
    help="A schema other than the newest, such as 0001; base for an empty database.",
)
@state_option
@json_option
def migrate_command(*, to: str | None, state_dir: Path | None, as_json: bool) -> int:
    """Bring the database to the newest schema.

    The database is that of DSPEX_DATABASE_URL, or the file in the state folder. Going back to an
    older schema drops the data that it cannot hold. A SQLite file is copied first.
    """
    # a host that only migrates needs no code
    settings = read_settings(flags={"state_dir": state_dir}, warn=warn)
    options = {} if to is None else {"to": to}
    database, before, now = run(migrate_database(settings, say=say, **options))
    if as_json:
        show_json({"database": database, "before": before, "schema": now})
    elif before == now:
        click.echo(f"{database} has schema {now or 'none'} already")
    else:
        click.echo(f"{database} went from schema {before or 'none'} to {now or 'none'}")
    return 0


@db_command.command("prune")
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
    show_json({"deleted": deleted}) if as_json else click.echo(
        f"deleted {quantity(deleted, 'execution')}"
    )
    return 0
