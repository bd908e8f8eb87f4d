"""`dspex signature`: store, list, show, activate and deprecate signatures."""

from pathlib import Path

import click

from dspex.bootstrap import Services
from dspex.errors import DefinitionError
from dspex.operations.programs.records import SignatureRecord
from dspex.operations.programs.stored_programs import save_signature_class
from dspex.surfaces.cli.nouns import noun_group
from dspex.surfaces.cli.options import operations_in, state_option, with_store, workspace_option
from dspex.surfaces.cli.output import json_option, show_json
from dspex.surfaces.cli.targets import code_root, module_name

signature_command = noun_group("signature")


@signature_command.command("push")
@click.argument("target")
@click.option(
    "--draft", "is_draft", is_flag=True, help="Programs cannot use it before `activate_signature`."
)
@workspace_option
@state_option
@json_option
def push_command(
    *,
    target: str,
    is_draft: bool,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Store the signature class TARGET (file.py:Name or package.module:Name).

    A changed class is stored as a new version. Programs are created with the name of a stored
    signature. `dspex signature create` stores a signature in text form.
    """
    place, colon, name = target.rpartition(":")
    if not colon:
        raise DefinitionError(f"{target!r} does not name a signature: write {target}:Name")
    if place.endswith(".py"):
        place = module_name(Path(place), code_root())

    async def work(services: Services) -> SignatureRecord:
        operations = await operations_in(services, workspace)
        return await save_signature_class(operations, f"{place}:{name}", is_draft=is_draft)

    signature = with_store(state_dir, work)
    if as_json:
        show_json(
            {
                "id": signature.id,
                "name": signature.name,
                "version": signature.version,
                "status": signature.status,
            }
        )
    else:
        click.echo(f"{signature.name}: version {signature.version}, {signature.status}")
    return 0
