"""`dspex import`: programs that were written for dspy, or saved by it, come under dspex."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import click

from dspex.bootstrap import Services, dspy_bridge
from dspex.errors import DefinitionError, InvalidError, NotFoundError
from dspex.execution.backends.choosing import DSPY_ONLY
from dspex.execution.backends.dspy_bridge.importing import Kind, import_into, import_over, read_saved
from dspex.execution.backends.outputs import GUESS
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.builder import load_program
from dspex.language.programs import Program
from dspex.language.signatures import Signature
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.targets import code_root, module_name

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for on the command line."""

    source: str
    name: str | None
    into: str | None
    signature: Signature | None
    kind: Kind
    init: dict[str, Any]


@click.command("import")
@click.argument("source")
@click.option("--name", help="What the program is called here; by default what the source calls it.")
@click.option("--init", default="{}", help="Arguments of the module's class, as a JSON object.")
@click.option("--into", help="What a saved state belongs to: file.py:Name of a dspy module, or a stored program.")
@click.option("--signature", help="Inputs and outputs ('question -> answer: int'); with --module, of a saved state.")
@click.option("--module", "kind", type=click.Choice(KINDS), default="predict", help="Of which module a state is.")
@state_option
@json_option
def import_command(  # noqa: PLR0913  # one parameter for each flag
    *,
    source: str,
    name: str | None,
    init: str,
    into: str | None,
    signature: str | None,
    kind: Kind,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Store the program SOURCE: file.py:Name or package.module:name of a dspy module, or a saved program.json.

    What `dspex optimize --out` or a module's `save` wrote is stored as it is, to run natively. A module of dspy is
    imported in a worker, never here. Importing it again makes a new version where it has changed.
    """
    wanted = Wanted(
        source=source,
        name=name,
        into=into,
        signature=None if signature is None else Signature(signature, name=name or "Imported"),
        kind=kind,
        init=_arguments(init),
    )
    code = code_root()

    async def work(services: Services) -> tuple[Any, Any, bool]:
        program = await _imported(services, wanted, code)
        try:
            before = (await services.operations.program(name=program.name)).current_version_id
        except NotFoundError:
            before = None
        is_native = program.root.backend == "native" and program.root.kind not in DSPY_ONLY
        record = await services.operations.save_program(program, backend="native" if is_native else "dspy")
        version = await services.operations.current_version(record)
        return record, version, version.id != before

    record, version, is_new = with_store(state_dir, work)
    fields = [item["name"] for item in version.definition["signature"]["fields"]]
    if as_json:
        show_json({"id": record.id, "name": record.name, "version": version.number, "new": is_new, "fields": fields})
    else:
        what = f"version {version.number}" if is_new else f"unchanged, version {version.number}"
        click.echo(f"{record.name}: {what} ({', '.join(fields)})")
        if version.definition["root"].get("config", {}).get("contract") == GUESS:
            outputs = [item["name"] for item in version.definition["signature"]["fields"] if item["role"] == "output"]
            say(
                f"its code does not tell its outputs: {', '.join(outputs)} is a guess. Say what it returns with "
                "--signature 'question -> answer'"
            )
        say(f"run it: dspex run {record.name} {next(iter(fields), 'field')}=...")
    return 0


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"--init is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidError(f"--init takes a JSON object, such as '{{\"hops\": 2}}', not {text!r}")
    return found


async def _imported(services: Services, wanted: Wanted, code: CodeRoot) -> Program:
    if wanted.source.endswith(".json") or ":" not in wanted.source:
        return await _saved(services, wanted, code)
    if wanted.into is not None:
        raise InvalidError("--into says what a saved program.json belongs to; a module needs none")
    return await _module(services, wanted, code, target=wanted.source)


async def _saved(services: Services, wanted: Wanted, code: CodeRoot) -> Program:
    file = Path(wanted.source)
    state, name = read_saved(file), wanted.name or file.stem
    if "definition" in state or "parts" in state:
        program = load_program(file)
        return program if wanted.name is None else replace(program, name=wanted.name)
    if wanted.into is None and wanted.signature is None:
        held = ", ".join(key for key in state if key != "metadata")
        raise DefinitionError(
            f"{wanted.source!r} is a state of dspy ({held}), which names no fields: say what it belongs to, with "
            "--into file.py:Name, or with --signature 'question -> answer' --module chain_of_thought"
        )
    if wanted.into is None and wanted.signature is not None:
        bridge = await dspy_bridge(services.backends)
        return await import_over(bridge, wanted.signature, wanted.kind, state=state, name=name)
    target = str(wanted.into)
    if ":" in target:
        return await _module(services, wanted, code, target=target, state=state)
    record = await services.operations.program(name=target)
    stored = await services.operations.program_value(record)
    if stored.root.kind != "dspy":
        return replace(import_into(stored, state, code=code), name=wanted.name or target)
    config = stored.root.config
    bridge = await dspy_bridge(services.backends)
    return await bridge.import_program(
        config["target"], init=config["init"], state=state, signature=stored.signature, name=wanted.name or target
    )


async def _module(
    services: Services, wanted: Wanted, code: CodeRoot, *, target: str, state: dict[str, Any] | None = None
) -> Program:
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        place = module_name(Path(place), code)
    bridge = await dspy_bridge(services.backends)
    return await bridge.import_program(
        f"{place}:{name}", init=wanted.init, state=state, signature=wanted.signature, name=wanted.name or name
    )
