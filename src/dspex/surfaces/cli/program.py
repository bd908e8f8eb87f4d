"""`dspex program`: list, show, compare, activate, rename, archive and export stored programs."""

from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query
from dspex.operations.programs.actions import DiffVersions, VersionDiff, diff_versions
from dspex.operations.programs.stored_programs import find_program, program_value
from dspex.surfaces.cli.files import write_text_file
from dspex.surfaces.cli.nouns import limit_option, noun_group, visible_values
from dspex.surfaces.cli.options import operations_in, state_option, with_store, workspace_option
from dspex.surfaces.cli.output import json_option, say, show_json, value_text
from dspex.surfaces.cli.table import table

program_command = noun_group(
    "program",
    columns=("name", "status", "backend", "module", "execution_count", "last_executed_at", "id"),
)


@program_command.command("versions")
@click.argument("name")
@limit_option
@workspace_option
@state_option
@json_option
def versions_command(
    *, name: str, limit: int, workspace: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """List the versions of a program, newest first; the current one is marked."""
    resource = DOMAIN["program_version"]

    async def work(services: Services) -> tuple[Any, list[Any]]:
        operations = await operations_in(services, workspace)
        program = await find_program(operations, name=name)
        query = Query(where={"program_id": program.id}, limit=limit)
        return program, await operations.list(resource, query)

    program, versions = with_store(state_dir, work)
    rows = [
        {**resource.values_of(version), "current": version.id == program.current_version_id}
        for version in versions
    ]
    if as_json:
        show_json({resource.plural: rows, "next": None})
        return 0
    marked = [{**row, "current": "*" if row["current"] else ""} for row in rows]
    click.echo(table(marked, ("number", "current", "made_by", "created_at", "id")))
    return 0


@program_command.command("diff")
@click.argument("name")
@click.argument("first", type=int)
@click.argument("second", type=int)
@workspace_option
@state_option
@json_option
def diff_command(
    *, as_json: bool, state_dir: Path | None, workspace: str | None, **flags: Any
) -> int:
    """Show what two versions of a program have different: each path with both values."""

    async def work(services: Services) -> VersionDiff:
        operations = await operations_in(services, workspace)
        return await operations.perform(diff_versions, DiffVersions(**flags))

    diff = with_store(state_dir, work)
    if as_json:
        show_json(visible_values(diff))
    elif not diff.changes:
        click.echo(f"versions {flags['first']} and {flags['second']} are the same")
    for change in () if as_json else diff.changes:
        click.echo(click.style(change["path"], bold=True))
        for mark, key, color in (("-", "before", "red"), ("+", "after", "green")):
            if change[key] is not None:
                lines = value_text(change[key]).splitlines()
                click.echo(click.style("\n".join(f"  {mark} {line}" for line in lines), fg=color))
    return 0


@program_command.command("export")
@click.argument("name")
@click.option(
    "--output", type=click.Path(path_type=Path), help="The file; by default standard output."
)
@workspace_option
@state_option
def export_command(
    *, name: str, output: Path | None, workspace: str | None, state_dir: Path | None
) -> int:
    """Save a program as JSON, which `run`, `eval`, `optimize`, `push` and `dspex.load` accept."""

    async def work(services: Services) -> Any:
        operations = await operations_in(services, workspace)
        return await program_value(operations, await find_program(operations, name=name))

    text = with_store(state_dir, work).to_json()
    if output is None:
        click.echo(text)
    else:
        write_text_file(output, f"{text}\n")
        say(f"saved {name} to {output}; next: dspex run {output}")
    return 0
