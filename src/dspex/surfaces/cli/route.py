"""`dspex route`: explain which model a route would ask now, and why."""

from typing import Any

import click

from dspex.error_text import suggest
from dspex.errors import NotFoundError
from dspex.session import ModelResolver
from dspex.surfaces.cli.group import SuggestingGroup
from dspex.surfaces.cli.options import settings_of
from dspex.surfaces.cli.output import json_option, show_json
from dspex.surfaces.cli.table import table


@click.group("route", cls=SuggestingGroup)
def route_command() -> None:
    """Commands on the routes that dspex.toml configures."""


@route_command.command("explain")
@click.argument("name")
@json_option
def explain_command(*, name: str, as_json: bool) -> int:
    """Show the models of route NAME, which one would be asked now, and why.

    The state is that of this process: circuits and latencies of a running server are in the spans
    of its calls.
    """
    from dspex.execution.clients.routing import Ask, Route

    settings = settings_of()
    route: Any = ModelResolver(settings)(name) if name in settings.models else None
    while route is not None and not isinstance(route, Route):
        route = getattr(route, "model", None)
    if route is None:
        routes = [
            key for key, fields in settings.models.items() if {"models", "fallback"} & {*fields}
        ]
        raise NotFoundError(
            f"dspex.toml has no route {name!r}.{suggest(name, routes)} A route is a "
            "table [models.NAME] with `models`, or with a `fallback`"
        )
    state, action = route.explain()
    rejected = action.rejected
    rows = [
        {
            "model": endpoint.label,
            "chosen": isinstance(action, Ask) and index == action.endpoint,
            "reason": rejected.get(endpoint.label) or getattr(action, "reason", "waits"),
            "circuit": "closed" if endpoint.circuit.opened_at is None else endpoint.circuit.reason,
            "weight": endpoint.weight,
            "usd_per_million": endpoint.price,
            "median_s": endpoint.reply.median,
        }
        for index, endpoint in enumerate(state.endpoints)
    ]
    if as_json:
        show_json(
            {
                "name": name,
                "policy": route.policy.name,
                "attempts": route.attempts,
                "patience": route.patience,
                "models": rows,
            }
        )
        return 0
    click.echo(
        f"{name}: {route.policy.name}. {route.policy.description} "
        f"At most {route.attempts} attempts for a call."
    )
    click.echo(table(rows, tuple(rows[0])))
    return 0
