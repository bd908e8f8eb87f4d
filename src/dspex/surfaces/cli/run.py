"""`dspex run`: run a program once and store the execution."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import click

from dspex.bootstrap import Services
from dspex.errors import NotFoundError
from dspex.execution.backends.outputs import check_outputs
from dspex.execution.context import RunContext
from dspex.language.programs import Program
from dspex.language.records import Passage
from dspex.language.signatures.content import Cited
from dspex.operations.executions.execution_recorder import ExecuteOptions
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.executions.session_records import SESSION
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.records import ProgramRecord
from dspex.operations.programs.stored_programs import find_program, program_value, record_program
from dspex.surfaces.cli.complete import complete_target
from dspex.surfaces.cli.field_printer import FieldPrinter
from dspex.surfaces.cli.options import (
    find_program_target,
    operations_in,
    run_options,
    settings_of,
    with_services,
    workspace_option,
)
from dspex.surfaces.cli.output import failure_text, say, show_json
from dspex.surfaces.cli.references import find_row
from dspex.surfaces.cli.table import short_id
from dspex.surfaces.cli.targets import Target
from dspex.surfaces.cli.terminal_answer import answer_at_terminal, has_terminal
from dspex.surfaces.cli.values import parse_inputs


@click.command("run")
@click.argument("target", shell_complete=complete_target)
@click.argument("values", nargs=-1, metavar="FIELD=VALUE ...")
@click.option(
    "--inputs", "file", type=click.Path(path_type=Path), help="A JSON file with the inputs."
)
@click.option(
    "--session",
    metavar="ID",
    help="The conversation to continue, see `dspex session create`; a completed run adds a turn.",
)
@workspace_option
@run_options
def run_command(
    *,
    target: str,
    values: tuple[str, ...],
    file: Path | None,
    backend: str | None,
    model: str | None,
    adapter: str | None,
    session: str | None,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Run TARGET once and store the execution.

    Text fields take text, all others JSON; FIELD=@path reads a file, FIELD=- the standard input. On
    a terminal, the outputs appear while the model writes them, and the program can ask you.
    """
    program_target = find_program_target(target, state_dir)

    async def work(services: Services) -> tuple[Program, ExecutionRecord]:
        operations = await operations_in(services, workspace)
        record = await store_target(operations, program_target)
        program = await program_value(operations, record)
        signature = program.signature
        inputs = parse_inputs(values, signature, file=file)
        if printer.is_live:
            printer.names = signature.output_fields
            _extend_context(
                operations.services[Executor], lambda context: context.listening(emit=printer.emit)
            )
        if has_terminal() and not as_json:
            _extend_context(operations.services[Executor], _answering)
        options = ExecuteOptions(
            actor=operations.actor.name,
            backend=backend,
            session_id=None if session is None else await _session_id(operations, session),
        )
        return program, await operations.services[Executor].execute(record, inputs, options)

    settings = settings_of(model=model, adapter=adapter, state_dir=state_dir)
    with FieldPrinter(is_live=sys.stdout.isatty() and not as_json) as printer:
        program, execution = with_services(settings, work)
    if as_json:
        show_json(execution_json(execution))
    elif execution.outputs is not None:
        printer.finish(_readable(program, execution.outputs))
        say(f"\n{summary(execution)}")
    elif execution.status == "waiting":
        printer.end_line()
        say(
            "the program asks a person: `dspex inbox` shows the question, `dspex execution answer "
            f"{short_id(execution.id)} FIELD=VALUE` answers it\n\n{summary(execution)}"
        )
    else:
        printer.end_line()
        error = execution.error or {"message": execution.status}
        say(f"{failure_text(error['message'], error.get('frames', ()))}\n\n{summary(execution)}")
    return 0 if execution.status in {"completed", "waiting"} else 1


async def _session_id(operations: Operations, text: str) -> UUID:
    """Return the id of the session that `text` names.

    Raises:
        NotFoundError: there is no such session.
    """
    return cast("UUID", (await find_row(operations.list, SESSION, text)).id)


def _readable(program: Program, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return outputs for people: citations as text with quotes, passages by their beginning."""
    values = check_outputs(program, outputs)
    return {name: _text_of(values.get(name), value) for name, value in outputs.items()}


def _text_of(value: object, data: object) -> object:
    if isinstance(value, Cited):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(item, Passage) for item in value):
        return "\n".join(
            f"[{number}] {passage.document or passage.id}: {' '.join(passage.text.split())[:80]}"
            for number, passage in enumerate(value, 1)
        )
    return data


def _extend_context(executor: Executor, change: Callable[[RunContext], RunContext]) -> None:
    """Change the context of all executions of this process."""
    provide = executor.context_provider

    async def provide_changed(workspace: str, context: RunContext) -> RunContext:
        return change(await provide(workspace, context))

    executor.context_provider = provide_changed


def _answering(context: RunContext) -> RunContext:
    return context.answered_by(answer_at_terminal)


async def store_target(operations: Operations, target: Target) -> ProgramRecord:
    """Return the stored program of a target; code is stored first, changed code as a new version.

    Raises:
        NotFoundError: no stored program has this name; the message shows how to name code.
    """
    if target.program is not None:
        return await record_program(operations, target.program)
    try:
        return await find_program(operations, name=target.name)
    except NotFoundError as error:
        raise NotFoundError(f"{error.message}; to run code, write file.py:name") from error


def summary(execution: ExecutionRecord) -> str:
    """Return the status line of an execution, and how to show it."""
    return f"{status_line(execution)}; see: dspex execution show {short_id(execution.id)}"


def status_line(execution: ExecutionRecord) -> str:
    """Return a line with status, time, tokens and cost of an execution."""
    usage = execution.usage or {}
    tokens = (
        f", {usage.get('input_tokens', 0)}+{usage.get('output_tokens', 0)} tokens" if usage else ""
    )
    cost = f", ${execution.cost_usd:.6f}" if execution.cost_usd else ""
    seconds = (execution.duration_ms or 0.0) / 1e3
    where = f" on {execution.backend}" if execution.backend != "native" else ""
    return f"{execution.status} in {seconds:.2f} s{where}{tokens}{cost}"


def execution_json(execution: ExecutionRecord) -> dict[str, object]:
    """Return an execution as JSON, without its trace."""
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
    return {name: getattr(execution, name) for name in names}
