"""Stored rows for commands: queries from texts, reading, and lists as tables or JSON."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.error_text import suggest
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.framework.query_arguments import continue_after, cursor_of, query_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.cli.options import has_database, operations_in, with_store
from dspex.surfaces.cli.output import say, show_json
from dspex.surfaces.cli.references import find_row
from dspex.surfaces.cli.table import table

Select = Callable[[Services, Resource[Any], Query], Awaitable[list[Any]]]


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


async def select_rows(
    services: Services,
    resource: Resource[Any],
    query: Query,
    *,
    workspace: str | None = None,
    of_all: bool = False,
    of: Sequence[tuple[Resource[Any], str]] = (),
) -> list[Any]:
    """Return the rows of a query in a workspace; without one, with `of_all` those of every one.

    `of` are rows that they must refer to, each with its resource and as `find_row` takes it.
    """
    operations = await operations_in(services, workspace)
    for target, text in of:
        row = await find_row(operations.list, target, text)
        query = replace(query, where={**query.where, f"{target.name}_id": row.id})
    if of_all and workspace is None:  # whoever can open the database may see all of it
        return [*await operations.store.select(resource, query)]
    rows: list[Any] = await operations.list(resource, query)
    return rows


async def query_after(
    services: Services, resource: Resource[Any], query: Query, *, text: str, **scope: Any
) -> Query:
    """Return `query` continued after the row that `text` names, or after a cursor of the API.

    Raises:
        InvalidError: it is neither.
    """
    try:
        row = await find_row(partial(select_rows, services, **scope), resource, text)
    except NotFoundError:
        return continue_after(resource, query, text)
    return continue_after(resource, query, cursor_of(row, query.sort))


def stored_rows(
    resource: Resource[Any], query: Query, select: Select, *, state_dir: Path | None
) -> tuple[list[Any], str | None]:
    """Return the rows of a query and the cursor of the next page; without a database none."""
    if not has_database(state_dir):
        return [], None
    larger = replace(query, limit=query.limit + 1)
    rows = with_store(state_dir, lambda services: select(services, resource, larger))
    shown = rows[: query.limit]
    return shown, cursor_of(shown[-1], query.sort) if len(rows) > query.limit else None


def stored_row(
    resource: Resource[Any], reference: str, select: Select, *, state_dir: Path | None
) -> Any:
    """Return the row that `reference` names; see `find_row`.

    Raises:
        NotFoundError: there is no such row, or no database.
    """
    if not has_database(state_dir):
        noun = resource.name.replace("_", " ")
        raise NotFoundError(f"there is no {noun} {reference!r}: nothing is stored here")
    return with_store(
        state_dir, lambda services: find_row(partial(select, services), resource, reference)
    )


Names = dict[str, dict[Any, str]]
"""The names of rows by their ids, by the resource that other rows refer to."""


async def names_of(
    services: Services,
    targets: Iterable[Resource[Any]],
    rows: Sequence[Any],
    *,
    workspace: str | None = None,
    of_all: bool = False,
) -> Names:
    """Return the names of the rows of `targets` that `rows` refer to."""
    names: Names = {}
    for target in targets:
        keys = tuple({getattr(row, f"{target.name}_id") for row in rows} - {None})
        query = Query(where={"id": keys}, limit=len(keys))
        referenced = (
            await select_rows(services, target, query, workspace=workspace, of_all=of_all)
            if keys
            else []
        )
        names[target.name] = {row.id: row.name for row in referenced}
    return names


def show_rows(
    resource: Resource[Any],
    rows: Sequence[Any],
    *,
    columns: Sequence[str],
    cursor: str | None,
    as_json: bool,
    names: Names | None = None,
) -> None:
    """Print rows as a table, or as the JSON object that the REST API returns for a list.

    The table has a column for each of `names`.
    """
    own = {"workspace"} & {*columns}  # an attribute that is hidden from the API
    values = [
        {**resource.values_of(row), **{name: getattr(row, name) for name in own}} for row in rows
    ]
    for target, of_ids in (names or {}).items():
        if not as_json:
            values = [{**row, target: of_ids.get(row[f"{target}_id"])} for row in values]
    if as_json:
        show_json({resource.plural: values, "next": cursor})
        return
    noun = resource.name.replace("_", " ")
    click.echo(table(values, columns) if values else f"no {noun} is stored here, or none fits")
    if cursor is not None:
        say(f"more: --after {rows[-1].id}")
