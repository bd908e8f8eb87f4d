"""Command groups derived from a resource: a verb for each of its actions, and `list`."""

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.errors import InvalidError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.action import Action
from dspex.operations.framework.resource import Resource
from dspex.surfaces.cli.list import filters_argument, query_of, sort_option
from dspex.surfaces.cli.options import state_option, with_store
from dspex.surfaces.cli.output import json_option, show_json, table


def resource_group(noun: str, resource: Resource[Any], about: str) -> click.Group:
    """Return the group `noun` with a command for each action of the resource, and `list`."""
    group = click.Group(name=noun, help=about)
    for action in DOMAIN.actions:
        if action.resource is resource:
            group.add_command(_action_command(action))
    group.add_command(_list_command(resource))
    return group


def _action_command(action: Action[Any, Any]) -> click.Command:
    """Return the command of an action: `name` is its argument, each other field an option."""
    verb = action.name.partition("_")[0]
    parameters: list[click.Parameter] = [click.Argument(["name"])]
    hints = typing.get_type_hints(action.input)
    for part in dataclasses.fields(action.input):
        if part.name != "name":
            parameters.append(
                _option(part.name, hints[part.name], required=part.default is dataclasses.MISSING)
            )

    def call(*, state_dir: Path | None, as_json: bool, **options: Any) -> int:
        values = {name: _convert(name, value, hints[name]) for name, value in options.items()}
        result = _perform(state_dir, action, action.input(**values))
        _show(action, result, as_json=as_json)
        return 0

    command = click.Command(verb, params=parameters, callback=call, help=action.description)
    return state_option(json_option(command))


def _option(name: str, hint: Any, *, required: bool) -> click.Option:
    members = (
        [arg for arg in typing.get_args(hint) if arg is not type(None)]
        if _is_union(hint)
        else [hint]
    )
    flag = f"--{name.replace('_', '-')}"
    if name == "text":
        return click.Option([flag], help="The secret; '-' reads it from standard input.")
    if typing.get_origin(members[0]) is list:
        return click.Option([flag], required=required, help="One or more, separated by commas.")
    kind: Any = click.INT if members[0] is int else click.STRING
    return click.Option([flag], type=kind, required=required)


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType)


def _convert(name: str, value: Any, hint: Any) -> Any:
    if value is None:
        return None
    if typing.get_origin(hint) is list:
        return [part.strip() for part in value.split(",") if part.strip()]
    if name == "text" and value == "-":
        return sys.stdin.read().rstrip("\r\n")
    if datetime in typing.get_args(hint):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise InvalidError(
                f"{name}: {value!r} is not a time such as 2030-01-01T00:00:00+00:00"
            ) from None
    return value


def _perform(state_dir: Path | None, action: Action[Any, Any], request: object) -> Any:
    async def work(services: Services) -> Any:
        return await services.operations.perform(action, request)

    return with_store(state_dir, work)


def _show(action: Action[Any, Any], result: Any, *, as_json: bool) -> None:
    row, extra = result, {}
    if action.result is not None:
        row = next(
            getattr(result, part.name)
            for part in dataclasses.fields(result)
            if part.name == action.resource.name
        )
        extra = {
            part.name: getattr(result, part.name)
            for part in dataclasses.fields(result)
            if part.name != action.resource.name
        }
    values = {**_visible_values(action.resource, row), **extra}
    if as_json:
        show_json(values)
        return
    click.echo(f"{action.resource.name.replace('_', ' ')} {row.name!r} is {row.status}")
    for name, value in extra.items():
        click.echo(f"{name}: {value}")
    if extra:
        click.echo("this is shown only once; store it with your secrets", err=True)


def _visible_values(resource: Resource[Any], row: object) -> Mapping[str, Any]:
    return {part.name: getattr(row, part.name) for part in resource.public_attributes}


def _list_command(resource: Resource[Any]) -> click.Command:
    def call(
        *, filters: tuple[str, ...], sort: str | None, state_dir: Path | None, as_json: bool
    ) -> int:
        query = query_of(resource, filters, sort, limit=1000)

        async def work(services: Services) -> Sequence[Any]:
            store = (
                services.operations.store
            )  # of all workspaces: anyone who can open the database sees them anyway
            return await store.select(resource, query)

        rows = [
            {**_visible_values(resource, row), "workspace": row.workspace}
            for row in with_store(state_dir, work)
        ]
        if as_json:
            show_json(rows)
        else:
            names = ("name", "workspace", "status", "scopes", "reference", "last_used_at", "id")
            columns = [name for name in names if rows and name in rows[0]]
            click.echo(
                table(rows, columns)
                if rows
                else f"there are no {resource.plural.replace('_', ' ')} yet"
            )
        return 0

    command = click.Command(
        "list", callback=call, help=f"List the {resource.plural.replace('_', ' ')}."
    )
    return filters_argument(sort_option(state_option(json_option(command))))
