"""`dspex inbox`: list the open questions of executions to people."""

from functools import partial
from pathlib import Path

import click

from dspex.operations.executions.records import QUESTION
from dspex.operations.framework.store import Query
from dspex.surfaces.cli.nouns import limit_option
from dspex.surfaces.cli.options import state_option, workspace_option
from dspex.surfaces.cli.output import json_option, say
from dspex.surfaces.cli.rows import select_rows, show_rows, stored_rows
from dspex.surfaces.cli.table import short_id

_COLUMNS = ("kind", "inputs", "created_at", "expires_at", "id", "execution_id")


@click.command("inbox")
@limit_option
@workspace_option
@state_option
@json_option
def inbox_command(
    *, limit: int, workspace: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """List the open questions, newest first; `dspex execution answer ID` answers one."""
    select = partial(select_rows, workspace=workspace)
    query = Query(where={"status": "open"}, limit=limit)
    rows, cursor = stored_rows(QUESTION, query, select, state_dir=state_dir)
    if rows or as_json:
        show_rows(QUESTION, rows, columns=_COLUMNS, cursor=cursor, as_json=as_json)
        if not as_json:
            say(f"answer one: dspex execution answer {short_id(rows[0].id)}")
    else:
        say("no question is open")
    return 0
