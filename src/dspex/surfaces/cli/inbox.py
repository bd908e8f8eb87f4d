"""`dspex inbox`: list the open questions of executions to people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.language.signatures import Signature
from dspex.language.signatures.string_form import fields_text
from dspex.operations.executions.records import QUESTION, QuestionRecord
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.operations.programs.records import PROGRAM
from dspex.surfaces.cli.nouns import limit_option
from dspex.surfaces.cli.options import state_option, workspace_option
from dspex.surfaces.cli.output import json_option, say
from dspex.surfaces.cli.rows import Names, names_of, select_rows, show_rows, stored_rows
from dspex.surfaces.cli.table import short_id, table

_COLUMNS = ("program", "kind", "inputs", "answer", "created_at", "expires_at", "execution_id", "id")


@click.command("inbox")
@limit_option
@workspace_option
@state_option
@json_option
def inbox_command(
    *, limit: int, workspace: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """List the open questions, newest first; `dspex execution answer ID` answers one.

    The column `answer` has the fields that an answer needs.
    """
    names: Names = {}

    async def select(
        services: Services, resource: Resource[Any], query: Query
    ) -> list[QuestionRecord]:
        rows = await select_rows(services, resource, query, workspace=workspace)
        names.update(await names_of(services, [PROGRAM], rows, workspace=workspace))
        return rows

    query = Query(where={"status": "open"}, limit=limit)
    rows, cursor = stored_rows(QUESTION, query, select, state_dir=state_dir)
    if as_json:
        show_rows(QUESTION, rows, columns=(), cursor=cursor, as_json=True)
    elif rows:
        click.echo(table([_cells(row, names[PROGRAM.name]) for row in rows], _COLUMNS))
        if cursor is not None:
            say("there are more: --limit shows them")
        say(f"answer one: dspex execution answer {short_id(rows[0].id)}")
    else:
        say("no question is open")
    return 0


def _cells(row: QuestionRecord, programs: Mapping[Any, str]) -> dict[str, Any]:
    outputs = Signature.from_dict(row.signature).output_fields.values()
    return {
        **QUESTION.values_of(row),
        "program": programs.get(row.program_id),
        "answer": fields_text(outputs, full=False),
    }
