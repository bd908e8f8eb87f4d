"""The group of commands of a resource: `list`, `show`, and a verb for each of its actions."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services, domain_of
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.action import Action
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.query_arguments import MAX_PAGE
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.cli.complete import complete_row
from dspex.surfaces.cli.fields import input_of, parameters_of
from dspex.surfaces.cli.group import SuggestingGroup
from dspex.surfaces.cli.options import (
    operations_in,
    settings_of,
    state_option,
    with_services,
    workspace_option,
)
from dspex.surfaces.cli.output import fields_text, json_option, row_text, say, show_json
from dspex.surfaces.cli.references import has_names, noun_of
from dspex.surfaces.cli.rows import (
    Names,
    names_of,
    query_after,
    query_of,
    select_rows,
    show_rows,
    stored_row,
    stored_rows,
)
from dspex.surfaces.cli.table import short_id
from dspex.surfaces.cli.targets import code_root
from dspex.surfaces.cli.verbs import noun_and_verb, with_commands

_FIRST = ("name", "version", "kind", "status", "waiting")
_LAST = ("created_at", "id")
_DELETE = "delete"
where_option = click.option(
    "--where",
    "filters",
    multiple=True,
    metavar="FILTER=VALUE",
    help="Only such rows, e.g. status=failed, cost_usd_gte=0.1; may be repeated.",
)
sort_option = click.option(
    "--sort", help="An attribute, such as created_at; with a minus (-created_at), descending."
)
limit_option = click.option(
    "--limit", type=click.IntRange(1, MAX_PAGE), default=20, show_default=True, help="Rows to show."
)
after_option = click.option("--after", help="The id of the last row of the page before.")


def noun_group(
    name: str, *, domain: Domain = DOMAIN, columns: Sequence[str] = (), of_all: bool = False
) -> click.Group:
    """Return the group of the resource `name`; a command added later replaces a derived one.

    Its verbs are the actions on it, also the ones that the settings add. `columns` are
    those of `list`, by default the short attributes; a resource that the rows refer to stands for
    the name of its row. With `of_all`, `list` and `show` read the rows of all workspaces unless
    --workspace names one.
    """
    resource = domain[name]
    plural = resource.plural.replace("_", " ")
    group = SuggestingGroup(noun_of(resource), help=f"Commands on {plural}.")
    group.add_command(
        _list_command(resource, columns or _columns(resource), domain=domain, of_all=of_all)
    )
    group.add_command(_show_command(resource, of_all=of_all))

    def action_commands() -> Iterator[click.Command]:
        domain = _settings_domain()
        for action in domain.actions:
            noun, _ = noun_and_verb(action, domain)
            if noun is resource or noun.name.startswith(f"{name}_"):
                yield _action_command(action, domain)

    group.rest = action_commands
    return group


def _settings_domain() -> Domain:
    """Return the domain with what the settings add to it."""
    return domain_of(settings_of(), code_root())


def all_nouns() -> dict[str, Resource[Any]]:
    """Return the resources by noun, also the ones that the settings add."""
    return {noun_of(each): each for each in _settings_domain().values() if not each.is_internal}


def other_group(noun: str) -> click.Group | None:
    """Return the group of a resource without a module here, None if it does not exist."""
    resource = all_nouns().get(noun)
    return None if resource is None else noun_group(resource.name, domain=_settings_domain())


def _action_command(action: Action[Any, Any], domain: Domain) -> click.Command:
    """Return the command of an action: what it needs are arguments, all else are options."""
    noun, verb = noun_and_verb(action, domain)
    # the row that the command is about comes first
    parameters = sorted(parameters_of(action, domain), key=lambda each: each.resource is not noun)
    inputs: list[click.Parameter] = [
        each.argument() if each.is_required or (number == 0 and each.resource) else each.option()
        for number, each in enumerate(parameters)
    ]
    names = {each.name for each in parameters}

    def call(*, state_dir: Path | None, as_json: bool, yes: bool = False, **values: Any) -> int:
        if verb == _DELETE and not yes and sys.stdin.isatty():
            row = f"{noun_of(noun)} {values[parameters[0].name]}"
            if not click.confirm(f"delete {row} and all that belongs to it?", err=True):
                return 1
        workspace = None if "workspace" in names else values["workspace"]

        async def work(services: Services) -> Any:
            operations = await operations_in(services, workspace)
            request = await input_of(action, values, parameters=parameters, operations=operations)
            return await operations.perform(action, request)

        settings = settings_of(state_dir=state_dir)
        if action.scope != "execute":  # only these call the model of the settings
            settings = dataclasses.replace(settings, model=None)
        show_result(action, with_services(settings, work), as_json=as_json, domain=domain)
        return 0

    options = () if "workspace" in names else (workspace_option,)
    if verb == _DELETE:
        inputs.append(click.Option(["--yes"], is_flag=True, help="Delete without asking."))
    description = with_commands(action.description, domain)
    command = click.Command(verb, params=inputs, callback=call, help=description)
    return _with(command, *options, state_option, json_option)


def _list_command(
    resource: Resource[Any], columns: Sequence[str], *, domain: Domain, of_all: bool
) -> click.Command:
    """Return `list`, with an option for each resource with names that the rows refer to."""
    named = {
        target: domain[target]
        for attribute, target in resource.references.items()
        if attribute == f"{target}_id" and has_names(domain[target])
    }

    def call(
        *,
        filters: tuple[str, ...],
        sort: str | None,
        limit: int,
        after: str | None,
        workspace: str | None,
        state_dir: Path | None,
        as_json: bool,
        **references: str | None,
    ) -> int:
        query = query_of(resource, filters, sort, limit=limit)
        of = [(named[name], text) for name, text in references.items() if text is not None]
        scope: dict[str, Any] = {"workspace": workspace, "of_all": of_all}
        names: Names = {}

        async def select(services: Services, resource: Resource[Any], query: Query) -> list[Any]:
            if after is not None:
                query = await query_after(services, resource, query, text=after, **scope)
            rows = await select_rows(services, resource, query, of=of, **scope)
            shown = [named[column] for column in columns if column in named]
            names.update(await names_of(services, shown, rows, **scope))
            return rows

        rows, cursor = stored_rows(resource, query, select, state_dir=state_dir)
        show_rows(resource, rows, columns=columns, cursor=cursor, as_json=as_json, names=names)
        return 0

    plural = resource.plural.replace("_", " ")
    options: list[click.Parameter] = [
        click.Option(
            [f"--{name.replace('_', '-')}", name],
            help=f"Only those of this {name.replace('_', ' ')}: its name or id.",
            shell_complete=complete_row(target),
        )
        for name, target in named.items()
    ]
    command = click.Command(
        "list",
        params=options,
        callback=call,
        help=f"List the {plural}, newest first or by --sort.",
    )
    shared = (where_option, sort_option, limit_option, after_option)
    return _with(command, *shared, workspace_option, state_option, json_option)


def _show_command(resource: Resource[Any], *, of_all: bool) -> click.Command:
    def call(
        *, reference: str, workspace: str | None, state_dir: Path | None, as_json: bool
    ) -> int:
        select = partial(select_rows, workspace=workspace, of_all=of_all)
        row = stored_row(resource, reference, select, state_dir=state_dir)
        values = resource.values_of(row)
        if as_json:
            show_json(values)
        else:
            click.echo(row_text(values))
        return 0

    argument = click.Argument(
        ["reference"],
        metavar="NAME|ID" if has_names(resource) else "ID",
        shell_complete=complete_row(resource),
    )
    command = click.Command(
        "show",
        params=[argument],
        callback=call,
        help=f"Show one {resource.name.replace('_', ' ')} with all its attributes.",
    )
    return _with(command, workspace_option, state_option, json_option)


def _with(command: click.Command, *options: Callable[[Any], Any]) -> click.Command:
    for option in reversed(options):
        command = option(command)
    return command


def _columns(resource: Resource[Any]) -> list[str]:
    names = [
        attribute.name
        for attribute in resource.visible
        if not ATTRIBUTE_KINDS[attribute.kind].is_document and attribute.name != "updated_at"
    ]
    first = [name for name in _FIRST if name in names]
    last = [name for name in _LAST if name in names]
    return [*first, *(name for name in names if name not in {*first, *last}), *last]


def show_result(
    action: Action[Any, Any], result: Any, *, as_json: bool, domain: Domain = DOMAIN
) -> None:
    """Print what an action returned: a line on its row and all other values, or JSON."""
    values = visible_values(result, domain)
    if as_json or not isinstance(values, Mapping):
        show_json(values)
        return
    row = values if action.result is None else values.get(action.resource.name)
    extra = {name: value for name, value in values.items() if value is not row}
    if isinstance(row, Mapping):
        click.echo(_row_line(action.resource, row))
    if action.result is not None and extra:
        click.echo(fields_text(extra))
    if "key" in extra:
        say("this is shown only once; store it with your secrets")


def _row_line(resource: Resource[Any], row: Mapping[str, Any]) -> str:
    name = f" {row['name']!r}" if row.get("name") else ""
    version = f" version {row['version']}" if "version" in row else ""
    status = f" is {row['status']}" if "status" in row else ""
    noun = resource.name.replace("_", " ")
    return f"{noun}{name}{version}{status} (id {short_id(row['id'])})"


def visible_values(value: Any, domain: Domain = DOMAIN) -> Any:
    """Return the visible attributes of a row, or of each row in a result."""
    resource = next(
        (resource for resource in domain.values() if resource.entity is type(value)), None
    )
    if resource is None and not dataclasses.is_dataclass(value):
        return value
    if resource is not None:
        return resource.values_of(value)
    return {
        part.name: visible_values(getattr(value, part.name), domain)
        for part in dataclasses.fields(value)
    }
