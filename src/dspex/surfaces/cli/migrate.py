"""`dspex migrate`: bring the database to the schema that this version reads."""

from pathlib import Path

import click

from dspex.bootstrap import migrate_database
from dspex.settings import read_settings
from dspex.surfaces.cli.options import state_option, warn
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.sync import run


@click.command("migrate")
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
    settings = read_settings(
        flags={"state_dir": state_dir}, warn=warn
    )  # a host that only migrates needs no code
    options = {} if to is None else {"to": to}
    database, before, now = run(migrate_database(settings, say=say, **options))
    if as_json:
        show_json({"database": database, "before": before, "schema": now})
    elif before == now:
        click.echo(f"{database} has schema {now or 'none'} already")
    else:
        click.echo(f"{database} went from schema {before or 'none'} to {now or 'none'}")
    return 0
