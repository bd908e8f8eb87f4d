"""`dspex execution ID`: one execution with its model calls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from dspex.bootstrap import Services
from dspex.errors import InvalidError
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import fields_text, json_option, show_json
from dspex.surfaces.cli.run import execution_json, summary


@click.command("execution")
@click.argument("execution_id")
@state_option
@json_option
def execution_command(*, execution_id: str, state_dir: Path | None, as_json: bool) -> int:
    """Show an execution: inputs, outputs or error, and each model call with prompt and reply."""
    try:
        key = UUID(execution_id)
    except ValueError:
        raise InvalidError(
            f"{execution_id!r} is not an id; `dspex executions` lists them"
        ) from None

    async def work(services: Services) -> ExecutionRecord:
        return await services.operations.row(EXECUTION, key)

    execution = with_store(state_dir, work)
    if as_json:
        show_json({**execution_json(execution), "trace": execution.trace})
        return 0
    click.echo(f"{summary(execution)}\n\n{_head('inputs')}\n{fields_text(execution.inputs)}")
    if execution.outputs is not None:
        click.echo(f"\n{_head('outputs')}\n{fields_text(execution.outputs)}")
    if execution.error is not None:
        click.echo(f"\n{_head('error')}\n{execution.error.get('message')}")
    for span in (execution.trace or {}).get("spans", ()):
        click.echo(_span_text(span))
    return 0


def _span_text(span: Mapping[str, Any]) -> str:
    seconds = (span["end_ns"] - span["start_ns"]) / 1e9
    head = (
        f"\n{_head(span['kind'])} {span['name']} at {span['path']}: {span['status']} in "
        f"{seconds:.3f} s"
    )
    lines = [head]
    if span["error"]:
        lines.append(span["error"])
    lines += [
        f"{name}: {span[key]}"
        for name, key in (("sent", "inputs_ref"), ("got", "outputs_ref"))
        if span[key]
    ]
    return "\n".join(lines)


def _head(text: str) -> str:
    return click.style(text, bold=True)
