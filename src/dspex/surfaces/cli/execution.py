"""`dspex execution`: list, show, follow, cancel and retry stored executions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.errors import InvalidError, NotFoundError
from dspex.failures import frames_text
from dspex.language.signatures import Signature
from dspex.operations.events.event_log import Feed
from dspex.operations.executions.actions import answer_execution
from dspex.operations.executions.inputs import AnswerExecution
from dspex.operations.executions.records import (
    EXECUTION,
    QUESTION,
    ExecutionRecord,
    QuestionRecord,
)
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.programs.stored_programs import find_program
from dspex.surfaces.cli.nouns import noun_group
from dspex.surfaces.cli.options import (
    operations_in,
    settings_of,
    state_option,
    with_services,
    with_store,
    workspace_option,
)
from dspex.surfaces.cli.output import failure_text, fields_text, json_option, say, show_json
from dspex.surfaces.cli.references import find_row
from dspex.surfaces.cli.rows import select_rows, stored_row, stored_rows
from dspex.surfaces.cli.run import execution_json, status_line
from dspex.surfaces.cli.table import short_id, time_text
from dspex.surfaces.cli.terminal_answer import ask_at_terminal, has_terminal
from dspex.surfaces.cli.values import parse_fields

_COLUMNS = ("created_at", "status", "inputs", "outputs", "duration_ms", "id")
_ENDED = ("completed", "failed", "cancelled", "interrupted")
execution_command = noun_group("execution", columns=_COLUMNS)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Also the prompts and replies of each model call."
)


@execution_command.command("show")
@click.argument("execution_id", metavar="ID")
@verbose_option
@workspace_option
@state_option
@json_option
def show_command(
    *,
    execution_id: str,
    verbose: bool,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Show an execution: inputs, outputs or error, and the tree of what it called."""
    select = partial(select_rows, workspace=workspace)
    execution = stored_row(EXECUTION, execution_id, select, state_dir=state_dir)
    _show(execution, verbose=verbose, as_json=as_json)
    return 0


@execution_command.command("last")
@verbose_option
@workspace_option
@state_option
@json_option
def last_command(
    *, verbose: bool, workspace: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """Show the newest execution."""
    select = partial(select_rows, workspace=workspace)
    rows, _ = stored_rows(EXECUTION, Query(limit=1), select, state_dir=state_dir)
    if not rows:
        raise NotFoundError("no execution is stored here yet; `dspex run TARGET` stores one")
    _show(rows[0], verbose=verbose, as_json=as_json)
    return 0


@execution_command.command("trace")
@click.argument("execution_id", metavar="ID")
@workspace_option
@state_option
def trace_command(*, execution_id: str, workspace: str | None, state_dir: Path | None) -> int:
    """Print the trace of an execution as JSON: every span with its times, inputs and outputs."""
    select = partial(select_rows, workspace=workspace)
    show_json(stored_row(EXECUTION, execution_id, select, state_dir=state_dir).trace)
    return 0


@execution_command.command("tail")
@click.option("--program", help="Only the executions of this program.")
@workspace_option
@state_option
@json_option
def tail_command(
    *, program: str | None, workspace: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """Print each execution when it ends, until interrupted; with --json one JSON value a line."""

    async def work(services: Services) -> None:
        operations = await operations_in(services, workspace)
        key = None if program is None else (await find_program(operations, name=program)).id
        feed = services.operations.services[Feed]
        events = feed.follow(operations.workspace, "execution", program_id=key)
        async with aclosing(events):
            async for entry in events:
                if entry.event.payload.get("status") not in _ENDED:
                    continue
                row = await operations.row(EXECUTION, entry.event.subject_id)
                click.echo(json.dumps(execution_json(row), default=str) if as_json else _line(row))

    with_store(state_dir, work)
    return 0


@execution_command.command("answer")
@click.argument("execution_id", metavar="ID")
@click.argument("values", nargs=-1, metavar="FIELD=VALUE ...")
@click.option("--question", help="The id of the question, if several are open.")
@workspace_option
@state_option
@json_option
def answer_command(
    *,
    execution_id: str,
    values: tuple[str, ...],
    question: str | None,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Answer the open question of an execution; without values, ask for them at the terminal.

    ID is that of the execution or of the question. A server or worker continues the execution;
    where none runs, this command does.
    """

    async def work(services: Services) -> ExecutionRecord:
        from dspex.bootstrap.local_jobs import continue_here  # other commands do not load it

        operations = await operations_in(services, workspace)
        row = await open_question(operations, execution_id, question)
        if row.execution_id is None:
            raise NotFoundError(f"the execution of the question {short_id(row.id)} was deleted")
        signature = Signature.from_dict(row.signature)
        answer = parse_fields(values, signature.output_fields)
        if not values and has_terminal():
            answer = ask_at_terminal(signature=signature, inputs=row.inputs)
        execution = await operations.perform(
            answer_execution,
            AnswerExecution(execution_id=row.execution_id, question_id=row.id, answer=answer),
        )
        if execution.status != "pending":
            return execution
        return await continue_here(services, execution)

    execution = with_services(settings_of(state_dir=state_dir), work)
    if as_json:
        show_json(execution_json(execution))
        return 0
    click.echo(f"execution is {execution.status} (id {short_id(execution.id)})")
    if execution.outputs is not None:
        click.echo(fields_text(execution.outputs))
    elif execution.error is not None:
        say(failure_text(execution.error["message"], execution.error.get("frames", ())))
    elif execution.status == "pending":
        say(
            "the server or worker of this database continues it; without one, start `dspex serve` "
            "or `dspex worker start` where the code of the program is"
        )
    elif execution.status == "waiting":
        say("the program asks another question: `dspex inbox` shows it")
    return 0


async def open_question(
    operations: Operations, reference: str, question: str | None
) -> QuestionRecord:
    """Return the open question with an id, or the only one of the execution with this id.

    Raises:
        NotFoundError: there is none.
        InvalidError: several are open, or several ids end so.
    """
    where: dict[str, Any] = {}
    try:
        execution = await find_row(operations.list, EXECUTION, reference)
        where = {"execution_id": execution.id}
    except NotFoundError:
        question = question or reference
    if question is not None:
        try:
            row: QuestionRecord = await find_row(operations.list, QUESTION, question)
        except NotFoundError:
            raise NotFoundError(
                f"there is no question and no execution {question!r}; `dspex inbox` lists the "
                "open questions"
            ) from None
        return row
    rows = await operations.list(QUESTION, Query(where={**where, "status": "open"}))
    if not rows:
        raise NotFoundError(f"the execution {reference} has no open question; see `dspex inbox`")
    if len(rows) > 1:
        ids = ", ".join(short_id(row.id) for row in rows)
        raise InvalidError(f"several questions are open: write --question and one of {ids}")
    only: QuestionRecord = rows[0]
    return only


def _line(execution: ExecutionRecord) -> str:
    shown = execution.outputs if execution.error is None else execution.error.get("message")
    seconds = (execution.duration_ms or 0.0) / 1e3
    head = f"{time_text(execution.created_at)}  {short_id(execution.id)}  {execution.status}"
    return f"{head}  {seconds:.2f} s  {json.dumps(shown, ensure_ascii=False, default=str)}"


def _show(execution: ExecutionRecord, *, verbose: bool, as_json: bool) -> None:
    if as_json:
        show_json({**execution_json(execution), "trace": execution.trace})
        return
    click.echo(f"{status_line(execution)}\n\n{_head('inputs')}\n{fields_text(execution.inputs)}")
    if execution.outputs is not None:
        click.echo(f"\n{_head('outputs')}\n{fields_text(execution.outputs)}")
    if execution.error is not None:
        click.echo(f"\n{_head('error')}\n{execution.error.get('message')}")
        if frames := execution.error.get("frames"):
            click.echo(frames_text(frames))
    spans = (execution.trace or {}).get("spans", ())
    if spans:
        click.echo(f"\n{_head('calls')}")
        for line in _tree(spans, None, 0, verbose=verbose):
            click.echo(line)
        if not verbose:
            click.echo(f"\nprompts and replies: dspex execution show {short_id(execution.id)} -v")


def _tree(
    spans: Sequence[Mapping[str, Any]], parent: int | None, depth: int, *, verbose: bool
) -> Iterator[str]:
    """Yield a line for each span below `parent`, in the order of their starts, indented."""
    children = [span for span in spans if span["parent_id"] == parent]
    for span in sorted(children, key=lambda each: int(each["start_ns"])):
        indent = "  " * depth
        seconds = (span["end_ns"] - span["start_ns"]) / 1e9
        status = "" if span["status"] == "ok" else f" {click.style(span['status'], fg='red')}"
        place = f" at {span['path']}" if span["path"] not in {"", span["name"]} else ""
        yield f"{indent}{_head(span['kind'])} {span['name']}{place}  {seconds:.3f} s{status}"
        if span["error"]:
            yield _indented(span["error"], indent)
        if frames := span["attributes"].get("frames"):
            yield _indented(frames_text(frames), indent)
        if verbose and span["kind"] in {"model", "tool"}:
            yield from _payloads(span, indent)
        yield from _tree(spans, span["span_id"], depth + 1, verbose=verbose)


def _payloads(span: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, key in (("sent", "inputs_ref"), ("received", "outputs_ref")):
        if span[key]:
            yield f"{indent}  {name}:\n{_indented(_readable(span[key]), f'{indent}  ')}"


def _readable(text: str) -> str:
    """Return recorded JSON with the texts in it as lines: messages by role, else by field."""
    try:
        value = json.loads(text)
    except ValueError:  # it was too long to be recorded whole
        return text
    messages = value.get("messages") if isinstance(value, dict) else value
    if isinstance(messages, list) and all(isinstance(each, dict) for each in messages):
        return "\n".join(f"[{each.get('role')}]\n{each.get('content')}" for each in messages)
    return fields_text(value) if isinstance(value, dict) else str(value)


def _indented(text: str, indent: str) -> str:
    return "\n".join(f"{indent}  {line}".rstrip() for line in text.splitlines())


def _head(text: str) -> str:
    return click.style(text, bold=True)
