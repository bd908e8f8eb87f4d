"""`dspex list RESOURCE`: the stored rows of any resource."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services, domain_of
from dspex.error_text import suggest
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.query_arguments import MAX_PAGE, cursor_of, query_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.cli.options import settings_of, state_option, with_services, with_store
from dspex.surfaces.cli.output import json_option, show_json, table
from dspex.surfaces.cli.targets import code_root

sort_option = click.option(
    "--sort", help="An attribute, such as created_at; with a minus (-created_at), descending."
)
filters_argument = click.argument("filters", nargs=-1, metavar="[FILTER=VALUE]...")


def query_of(
    resource: Resource[Any], filters: Sequence[str], sort: str | None, *, limit: int
) -> Query:
    """Return the query for FILTER=VALUE texts; the names are those of the REST API.

    Raises:
        InvalidError: a filter, a value or the order is invalid; the message names it.
    """
    pairs = [] if sort is None else [("sort", sort)]
    for text in filters:
        name, equals, value = text.partition("=")
        if not equals:
            names = list(resource.filters)
            raise InvalidError(
                f"{text!r} is not FILTER=VALUE.{suggest(name, names)} There are: {', '.join(names)}"
            )
        pairs.append((name, value))
    return query_from(resource, pairs, first=limit)


def stored_rows(
    resource: Resource[Any], query: Query, names: Sequence[str], *, state_dir: Path | None
) -> list[dict[str, Any]]:
    """Return the attributes `names` of the stored rows of a built-in resource."""

    async def work(services: Services) -> Sequence[Any]:
        rows: Sequence[Any] = await services.operations.list(resource, query)
        return rows

    return [{name: getattr(row, name) for name in names} for row in with_store(state_dir, work)]


@click.command("list")
@click.argument("resource")
@filters_argument
@sort_option
@click.option("--first", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True)
@click.option("--after", help="The cursor at the end of the last page.")
@state_option
@json_option
def list_command(
    *,
    resource: str,
    filters: tuple[str, ...],
    sort: str | None,
    first: int,
    after: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """List the rows of any RESOURCE (programs, executions, or your own), newest first or by --sort.

    A FILTER is an attribute with or without a suffix: status=failed cost_usd_gte=0.1
    created_at_after=2030-01-31T12:00Z.
    """
    settings = replace(settings_of(state_dir=state_dir), model=None)
    domain = domain_of(settings, code_root())
    resources = {each.plural: each for each in domain.values() if not each.is_internal}
    if resource not in resources:
        names = ", ".join(resources)
        raise NotFoundError(
            f"unknown resource {resource!r}.{suggest(resource, resources)} There are: {names}"
        )
    definition = resources[resource]
    query = query_of(
        definition, [*filters, *([] if after is None else [f"after={after}"])], sort, limit=first
    )

    async def work(services: Services) -> Sequence[Any]:
        rows: Sequence[Any] = await services.operations.list(
            definition, replace(query, limit=first + 1)
        )
        return rows

    records = with_services(settings, work)
    rows = [definition.values_of(row) for row in records[:first]]
    cursor = cursor_of(records[first - 1], query.sort) if len(records) > first else None
    if as_json:
        show_json({resource: rows, "next": cursor})
        return 0
    columns = [
        part.name for part in definition.visible if not ATTRIBUTE_KINDS[part.kind].is_document
    ]
    click.echo(table(rows, columns) if rows else f"there are no such {resource.replace('_', ' ')}")
    if cursor is not None:
        click.echo(f"more rows: --after {cursor}", err=True)
    return 0
