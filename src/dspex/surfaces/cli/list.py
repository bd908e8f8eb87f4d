"""`dspex list RESOURCE`: the stored rows of any resource."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services, domain_of
from dspex.errors import InvalidError, NotFoundError, suggest
from dspex.operations.resources import Query, Resource
from dspex.operations.resources.finding import MAX_PAGE, cursor_of, query_from
from dspex.surfaces.cli.options import settings_of, state_option, with_services
from dspex.surfaces.cli.output import json_option, show_json, table
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
