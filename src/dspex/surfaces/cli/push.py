"""`dspex push`: store a program as a version, without running it."""

from dataclasses import dataclass, replace
from pathlib import Path

import click

from dspex.bootstrap import Services
from dspex.errors import DefinitionError, NotFoundError
from dspex.language.programs import Program
from dspex.operations.framework.operations import Operations
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
    program = program_in_code(target)
    if name is not None:
        program = replace(program, name=name)

    async def work(services: Services) -> StoredVersion:
        return await store_version(await operations_in(services, workspace), program)

    version = with_store(state_dir, work)
    if as_json:
        is_new = version.number != version.before
        show_json({"name": version.name, "version": version.number, "new": is_new})
        return 0
    where = "" if workspace is None else f" in the workspace {workspace}"
    click.echo(f"{version}{where}")
    if workspace is None:
        inputs = " ".join(f"{name}=..." for name in program.signature.input_fields)
        say(f"run it: dspex run {version.name} {inputs}")
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """The current version of a program, and the number of the one before (0: none)."""

    name: str
    number: int
    before: int

    def __str__(self) -> str:
        if self.number < self.before:
            return (
                f"{self.name}: version {self.number} is current again, instead of version "
                f"{self.before}"
            )
        change = "" if self.number > self.before else "unchanged, "
        return f"{self.name}: {change}version {self.number}"


def program_in_code(target: str) -> Program:
    """Return the program that a TARGET names in code or in a file.

    Raises:
        DefinitionError: it does not exist, or is the name of a stored program.
    """
    program = find_target(target, code_root()).program
    if program is None:
        raise DefinitionError(f"{target!r} is neither code nor a file; write file.py:name")
    return program


async def store_version(operations: Operations, program: Program) -> StoredVersion:
    """Store a program as the current version of its name, unless it is that already."""
    try:
        record = await find_program(operations, name=program.name)
        before = (await current_version(operations, record)).number
    except NotFoundError:
        before = 0
    record = await save_program(operations, program)
    version = await current_version(operations, record)
    return StoredVersion(name=record.name, number=version.number, before=before)
