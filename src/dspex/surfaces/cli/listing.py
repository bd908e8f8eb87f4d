"""`dspex programs`, `dspex executions`, `dspex execution ID`: what is stored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from dspex.bootstrap import Services
from dspex.errors import InvalidError
from dspex.operations.resources import DOMAIN, ExecutionRecord, Query
from dspex.surfaces.cli.options import settings_of, state_option, with_services
from dspex.surfaces.cli.output import fields_text, json_option, show_json, table
from dspex.surfaces.cli.running import execution_json, summary


@click.command("programs")
@state_option
@json_option
def programs_command(*, state_dir: Path | None, as_json: bool) -> int:
    """List the stored programs, newest first."""

    async def work(services: Services) -> Sequence[Any]:
        return await services.operations.list(DOMAIN["program"], Query(limit=200))  # type: ignore[no-any-return]

    names = ("name", "status", "backend", "module", "execution_count", "last_executed_at", "id")
    rows = [{name: getattr(row, name) for name in names} for row in with_services(_settings(state_dir), work)]
    _show(rows, names, as_json=as_json, empty="no program is stored here yet; `dspex run file.py:name` stores one")
    return 0


@click.command("executions")
@click.option("--program", help="Only those of the program with this name.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@state_option
@json_option
def executions_command(*, program: str | None, limit: int, state_dir: Path | None, as_json: bool) -> int:
    """List executions, newest first."""

    async def work(services: Services) -> Sequence[ExecutionRecord]:
        where: dict[str, Any] = {}
        if program is not None:
            where["program_id"] = (await services.operations.program(name=program)).id
        return await services.operations.list(DOMAIN["execution"], Query(where=where, limit=limit))  # type: ignore[no-any-return]

    rows = [execution_json(row) for row in with_services(_settings(state_dir), work)]
    columns = ("created_at", "status", "inputs", "outputs", "duration_ms", "id")
    _show(rows, columns, as_json=as_json, empty="no execution is stored here yet")
    return 0


@click.command("execution")
@click.argument("execution_id")
@state_option
@json_option
def execution_command(*, execution_id: str, state_dir: Path | None, as_json: bool) -> int:
    """Show one execution whole: inputs, outputs or error, and every model call with its prompt and reply."""
    try:
        key = UUID(execution_id)
    except ValueError:
        raise InvalidError(f"{execution_id!r} is no id; `dspex executions` lists them") from None

    async def work(services: Services) -> ExecutionRecord:
        return await services.operations.execution(key)

    found = with_services(_settings(state_dir), work)
    if as_json:
        show_json({**execution_json(found), "trace": found.trace})
        return 0
    click.echo(f"{summary(found)}\n\n{_head('inputs')}\n{fields_text(found.inputs)}")
    if found.outputs is not None:
        click.echo(f"\n{_head('outputs')}\n{fields_text(found.outputs)}")
    if found.error is not None:
        click.echo(f"\n{_head('error')}\n{found.error.get('message')}")
    for span in (found.trace or {}).get("spans", ()):
        click.echo(_span_text(span))
    return 0


def _span_text(span: Mapping[str, Any]) -> str:
    seconds = (span["end_ns"] - span["start_ns"]) / 1e9
    head = f"\n{_head(span['kind'])} {span['name']} at {span['path']}: {span['status']} in {seconds:.3f} s"
    lines = [head]
    if span["error"]:
        lines.append(span["error"])
    lines += [f"{name}: {span[key]}" for name, key in (("sent", "inputs_ref"), ("got", "outputs_ref")) if span[key]]
    return "\n".join(lines)


def _head(text: str) -> str:
    return click.style(text, bold=True)


def _show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    if as_json:
        show_json(list(rows))
    else:
        click.echo(table(rows, columns) if rows else empty)


def _settings(state_dir: Path | None) -> Any:  # noqa: ANN401  # Settings without a model: reading needs none
    from dataclasses import replace

    return replace(settings_of(state_dir=state_dir), model=None)
