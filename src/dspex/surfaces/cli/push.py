"""`dspex push`: store a program as a version, without running it."""

from dataclasses import replace
from pathlib import Path

import click

from dspex.bootstrap import Services
from dspex.errors import DefinitionError, NotFoundError
from dspex.operations.programs.stored_programs import current_version, find_program, save_program
from dspex.surfaces.cli.complete import complete_target
from dspex.surfaces.cli.options import operations_in, state_option, with_store, workspace_option
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.targets import code_root, find_target


@click.command("push")
@click.argument("target", shell_complete=complete_target)
@click.option("--name", help="The name to store it under; by default its own.")
@workspace_option
@state_option
@json_option
def push_command(
    *,
    target: str,
    name: str | None,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Store the program TARGET (file.py:name, package.module:name or program.json).

    A changed program becomes the next version, and the current one; an unchanged one is not stored
    again.
    """
    program = find_target(target, code_root()).program
    if program is None:
        raise DefinitionError(f"{target!r} is no code and no file; write file.py:name")
    if name is not None:
        program = replace(program, name=name)

    async def work(services: Services) -> tuple[str, int, int]:
        operations = await operations_in(services, workspace)
        try:
            record = await find_program(operations, name=program.name)
            before = (await current_version(operations, record)).number
        except NotFoundError:
            before = 0
        record = await save_program(operations, program)
        return record.name, (await current_version(operations, record)).number, before

    stored, number, before = with_store(state_dir, work)
    if as_json:
        show_json({"name": stored, "version": number, "new": number != before})
        return 0
    change = f"version {number}" if number > before else f"unchanged, version {number}"
    if number < before:
        change = f"version {number} is current again, instead of version {before}"
    where = "" if workspace is None else f" in the workspace {workspace}"
    click.echo(f"{stored}: {change}{where}")
    if workspace is None:
        say(f"run it: dspex run {stored} FIELD=VALUE")
    return 0
