"""`dspex run`: one execution, stored."""

from pathlib import Path

import click

from dspex.bootstrap import Services
from dspex.errors import NotFoundError
from dspex.operations.resources import ExecuteProgram, ExecutionRecord
from dspex.operations.resources.program import ProgramRecord
from dspex.surfaces.cli.options import run_options, settings_of, with_services
from dspex.surfaces.cli.output import fields_text, say, show_json
from dspex.surfaces.cli.targets import Target, code_root, find_target
from dspex.surfaces.cli.values import inputs_of


@click.command("run")
@click.argument("target")
@click.argument("values", nargs=-1, metavar="FIELD=VALUE ...")
@click.option("--inputs", "file", type=click.Path(path_type=Path), help="A JSON file with the inputs.")
@run_options
def run_command(  # noqa: PLR0913  # one parameter for each flag
    *,
    target: str,
    values: tuple[str, ...],
    file: Path | None,
    backend: str | None,
    model: str | None,
    adapter: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Run TARGET once and store the execution.

    A field that is no text takes JSON; FIELD=@path reads a file, FIELD=- the standard input.
    """
    found = find_target(target, code_root())

    async def work(services: Services) -> ExecutionRecord:
        record = await stored(services, found)
        signature = (await services.operations.program_value(record)).signature
        given = inputs_of(values, signature, file=file)
        wanted = ExecuteProgram(program_id=record.id, inputs=given, backend=backend)
        return await services.operations.execute_program(wanted)

    ended = with_services(settings_of(model=model, adapter=adapter, state_dir=state_dir), work)
    if as_json:
        show_json(execution_json(ended))
    elif ended.outputs is not None:
        click.echo(fields_text(ended.outputs))
        say(f"\n{summary(ended)}")
    else:
        error = ended.error or {}
        say(f"{click.style('error:', fg='red', bold=True)} {error.get('message', ended.status)}\n\n{summary(ended)}")
    return 0 if ended.status == "completed" else 1


async def stored(services: Services, target: Target) -> ProgramRecord:
    """Return the stored program of a target; code is stored first, as a new version where it has changed.

    Raises:
        NotFoundError: no program of this name is stored; the message says how to name code.
    """
    if target.program is not None:
        return await services.operations.save_program(target.program)
    try:
        return await services.operations.program(name=target.name)
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no stored program {target.name!r} (`dspex programs` lists them); to run code, write file.py:name"
        ) from error


def summary(ended: ExecutionRecord) -> str:
    """Return one line on what an execution took, and how to look at it."""
    usage = ended.usage or {}
    tokens = f", {usage.get('input_tokens', 0)}+{usage.get('output_tokens', 0)} tokens" if usage else ""
    cost = f", ${ended.cost_usd:.6f}" if ended.cost_usd else ""
    seconds = (ended.duration_ms or 0.0) / 1e3
    where = f" on {ended.backend}" if ended.backend != "native" else ""
    return f"{ended.status} in {seconds:.2f} s{where}{tokens}{cost}; see: dspex execution {ended.id}"


def execution_json(ended: ExecutionRecord) -> dict[str, object]:
    """Return what `--json` shows of an execution: all but its trace."""
    names = (
        "id",
        "program_id",
        "status",
        "backend",
        "inputs",
        "outputs",
        "error",
        "usage",
        "cost_usd",
        "duration_ms",
        "created_at",
    )
    return {name: getattr(ended, name) for name in names}
