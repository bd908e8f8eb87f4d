"""`dspex import`: store programs that were written for dspy or saved by it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services, dspy_bridge
from dspex.errors import DefinitionError, InvalidError, NotFoundError
from dspex.execution.backends.dspy_bridge import DspyBackend
from dspex.execution.backends.dspy_bridge.saved_programs import (
    STATE_KINDS,
    import_into,
    import_over,
    read_saved,
)
from dspex.execution.backends.outputs import GUESS
from dspex.execution.context import use_context
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.builder import load_program
from dspex.execution.modules.kinds import MODULE_KINDS
from dspex.language.programs import Program
from dspex.language.signatures import Signature
from dspex.operations.programs.stored_programs import (
    current_version,
    find_program,
    program_value,
    save_program,
)
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.progress import Progress
from dspex.surfaces.cli.targets import code_root, module_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """The arguments of the command."""

    source: str
    name: str | None
    into: str | None
    signature: Signature | None
    kind: str
    init: dict[str, Any]


@click.command("import")
@click.argument("source")
@click.option("--name", help="The name of the stored program; by default its name in the source.")
@click.option("--init", default="{}", help="Arguments of the module's class, as a JSON object.")
@click.option(
    "--into",
    help="The program of a saved state: file.py:Name of a dspy module, or a stored program.",
)
@click.option(
    "--signature",
    help="Inputs and outputs ('question -> answer: int'); for a saved state, with --module.",
)
@click.option(
    "--module",
    "kind",
    type=click.Choice(STATE_KINDS),
    default="predict",
    help="The module of a saved state.",
)
@state_option
@json_option
def import_command(
    *,
    source: str,
    name: str | None,
    init: str,
    into: str | None,
    signature: str | None,
    kind: str,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Store the program SOURCE, which was written for dspy or saved by it or by dspex.

    SOURCE is file.py:Name or package.module:name of a dspy module, or a saved program.json. A file
    written by `dspex optimize --output` or a module's `save` is stored unchanged and runs natively.
    A dspy module is imported in a worker process. Importing a program again stores a new version
    if it has changed.
    """
    request = ImportRequest(
        source=source,
        name=name,
        into=into,
        signature=None if signature is None else Signature(signature, name=name or "Imported"),
        kind=kind,
        init=_arguments(init),
    )
    code = code_root()

    async def work(services: Services) -> tuple[Any, Any, bool]:
        program = await _load(services, request, code)
        try:
            previous = (
                await find_program(services.operations, name=program.name)
            ).current_version_id
        except NotFoundError:
            previous = None
        is_native = program.root.backend == "native" and _runs_here(program.root.kind)
        record = await save_program(
            services.operations, program, backend="native" if is_native else "dspy"
        )
        version = await current_version(services.operations, record)
        return record, version, version.id != previous

    record, version, is_new = with_store(state_dir, work)
    _show(record, version, is_new=is_new, as_json=as_json)
    return 0


def _show(record: Any, version: Any, *, is_new: bool, as_json: bool) -> None:
    signature = version.definition["signature"]
    fields = [field["name"] for field in signature["fields"]]
    if as_json:
        show_json(
            {
                "id": record.id,
                "name": record.name,
                "version": version.number,
                "new": is_new,
                "fields": fields,
            }
        )
        return
    change = f"version {version.number}" if is_new else f"unchanged, version {version.number}"
    click.echo(f"{record.name}: {change} ({', '.join(fields)})")
    if version.definition["root"].get("config", {}).get("contract") == GUESS:
        outputs = [field["name"] for field in signature["fields"] if field["role"] == "output"]
        say(
            f"its code does not tell its outputs: {', '.join(outputs)} is a guess. Name its "
            "outputs with --signature 'question -> answer'"
        )
    say(f"run it: dspex run {record.name} {next(iter(fields), 'field')}=...")


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"--init is not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InvalidError(f"--init takes a JSON object, such as '{{\"hops\": 2}}', not {text!r}")
    return arguments


async def _load(services: Services, request: ImportRequest, code: CodeRoot) -> Program:
    if request.source.endswith(".json") or ":" not in request.source:
        return await _load_saved(services, request, code)
    if request.into is not None:
        raise InvalidError("--into is for a saved program.json; a module needs none")
    return await _load_module(services, request, code, target=request.source)


async def _load_saved(services: Services, request: ImportRequest, code: CodeRoot) -> Program:
    file = Path(request.source)
    state, name = read_saved(file), request.name or file.stem
    if "definition" in state or "parts" in state:
        program = load_program(file)
        return program if request.name is None else replace(program, name=request.name)
    if request.into is None and request.signature is None:
        keys = ", ".join(key for key in state if key != "metadata")
        raise DefinitionError(
            f"{request.source!r} is a state of dspy ({keys}), which names no fields: name its "
            "program with --into file.py:Name, or with --signature 'question -> answer' --module "
            "chain_of_thought"
        )
    if request.into is None and request.signature is not None:
        async with _bridge(services, request) as bridge:
            return await import_over(
                bridge, request.signature, request.kind, state=state, name=name
            )
    target = str(request.into)
    if ":" in target:
        return await _load_module(services, request, code, target=target, state=state)
    record = await find_program(services.operations, name=target)
    target_program = await program_value(services.operations, record)
    if target_program.root.kind != "dspy":
        return replace(import_into(target_program, state, code=code), name=request.name or target)
    config = target_program.root.config
    async with _bridge(services, request) as bridge:
        return await bridge.import_program(
            config["target"],
            init=config["init"],
            state=state,
            signature=target_program.signature,
            name=request.name or target,
        )


async def _load_module(
    services: Services,
    request: ImportRequest,
    code: CodeRoot,
    *,
    target: str,
    state: dict[str, Any] | None = None,
) -> Program:
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        place = module_name(Path(place), code)
    async with _bridge(services, request) as bridge:
        return await bridge.import_program(
            f"{place}:{name}",
            init=request.init,
            state=state,
            signature=request.signature,
            name=request.name or name,
        )


@asynccontextmanager
async def _bridge(services: Services, request: ImportRequest) -> AsyncIterator[DspyBackend]:
    """Yield the bridge to dspy when its worker has started, and show a live line meanwhile."""
    bridge = await dspy_bridge(services.backends)
    progress = Progress(f"importing {request.source}", limit_s=bridge.config.seconds)
    with progress, use_context(services.context):  # a module may build an index of embeddings
        yield bridge


def _runs_here(kind: str) -> bool:
    return kind not in MODULE_KINDS or "native" in MODULE_KINDS[kind].backends
