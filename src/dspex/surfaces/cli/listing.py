"""`dspex list RESOURCE`, `dspex programs`, `dspex executions`, `dspex execution ID`: what is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from dspex.bootstrap import Services, domain_of
from dspex.errors import InvalidError, NotFoundError, suggest
from dspex.operations.resources import DOMAIN, ExecutionRecord, Query, Resource
from dspex.operations.resources.finding import MAX_PAGE, cursor_of, query_from
from dspex.surfaces.cli.options import settings_of, state_option, with_services, with_store
from dspex.surfaces.cli.output import fields_text, json_option, show_json, table
from dspex.surfaces.cli.running import execution_json, summary
from dspex.surfaces.cli.targets import code_root

sort_option = click.option("--sort", help="An attribute, such as created_at; a minus before it: the greatest first.")
filters_argument = click.argument("filters", nargs=-1, metavar="[FILTER=VALUE]...")


def query_of(resource: Resource[Any], filters: Sequence[str], sort: str | None, *, limit: int) -> Query:
    """Return the query for FILTER=VALUE texts: the same names as in REST.

    Raises:
        InvalidError: a filter or the order is none of the resource's, or a value impossible; it is named.
    """
    pairs = [] if sort is None else [("sort", sort)]
    for text in filters:
        name, equals, value = text.partition("=")
        if not equals:
            known = list(resource.filters)
            raise InvalidError(f"{text!r} is no FILTER=VALUE.{suggest(name, known)} There are: {', '.join(known)}")
        pairs.append((name, value))
    return query_from(resource, pairs, first=limit)


@click.command("list")
@click.argument("resource")
@filters_argument
@sort_option
@click.option("--first", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True)
@click.option("--after", help="The cursor that the last page ended with.")
@state_option
@json_option
def list_command(  # noqa: PLR0913  # one parameter for each flag
    *,
    resource: str,
    filters: tuple[str, ...],
    sort: str | None,
    first: int,
    after: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """List the rows of any RESOURCE (programs, executions, ... and your own), newest first or in another order.

    A FILTER is an attribute or one with an ending: status=failed cost_usd_gte=0.1 created_at_after=2030-01-31T12:00Z.
    """
    settings = replace(settings_of(state_dir=state_dir), model=None)
    domain = domain_of(settings, code_root())
    known = {found.plural: found for found in domain.values() if not found.is_internal}
    if resource not in known:
        names = ", ".join(known)
        raise NotFoundError(f"there is no resource {resource!r}.{suggest(resource, known)} There are: {names}")
    wanted = known[resource]
    query = query_of(wanted, [*filters, *([] if after is None else [f"after={after}"])], sort, limit=first)

    async def work(services: Services) -> Sequence[Any]:
        return await services.operations.list(wanted, replace(query, limit=first + 1))  # type: ignore[no-any-return]

    found = with_services(settings, work)
    rows = [wanted.values_of(row) for row in found[:first]]
    following = cursor_of(found[first - 1], query.sort) if len(found) > first else None
    if as_json:
        show_json({resource: rows, "next": following})
        return 0
    columns = [part.name for part in wanted.visible if part.kind not in {"json", "embedding"}]
    click.echo(table(rows, columns) if rows else f"there are no such {resource.replace('_', ' ')}")
    if following is not None:
        click.echo(f"there are more: --after {following}", err=True)
    return 0


@click.command("programs")
@filters_argument
@sort_option
@state_option
@json_option
def programs_command(*, filters: tuple[str, ...], sort: str | None, state_dir: Path | None, as_json: bool) -> int:
    """List the stored programs, newest first or by --sort; a FILTER is one of `dspex list programs`."""
    query = query_of(DOMAIN["program"], filters, sort, limit=200)

    async def work(services: Services) -> Sequence[Any]:
        return await services.operations.list(DOMAIN["program"], query)  # type: ignore[no-any-return]

    names = ("name", "status", "backend", "module", "execution_count", "last_executed_at", "id")
    rows = [{name: getattr(row, name) for name in names} for row in with_store(state_dir, work)]
    _show(rows, names, as_json=as_json, empty="no program is stored here yet; `dspex run file.py:name` stores one")
    return 0


@click.command("executions")
@filters_argument
@sort_option
@click.option("--program", help="Only those of the program with this name.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@state_option
@json_option
def executions_command(  # one parameter for each flag
    *,
    filters: tuple[str, ...],
    sort: str | None,
    program: str | None,
    limit: int,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """List executions, newest first or by --sort; a FILTER is one of `dspex list executions`."""
    query = query_of(DOMAIN["execution"], filters, sort, limit=limit)

    async def work(services: Services) -> Sequence[ExecutionRecord]:
        where = dict(query.where)
        if program is not None:
            where["program_id"] = (await services.operations.program(name=program)).id
        return await services.operations.list(DOMAIN["execution"], replace(query, where=where))  # type: ignore[no-any-return]

    rows = [execution_json(row) for row in with_store(state_dir, work)]
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

    found = with_store(state_dir, work)
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
