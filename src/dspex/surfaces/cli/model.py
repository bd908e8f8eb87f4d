"""`dspex model`: list the configured models, and ask each of them once."""

import time
from collections.abc import Iterator
from typing import Any

import click

from dspex.errors import DspexError
from dspex.session import ModelResolver
from dspex.settings import Settings
from dspex.surfaces.cli.group import SuggestingGroup
from dspex.surfaces.cli.options import settings_of
from dspex.surfaces.cli.output import json_option, show_json
from dspex.surfaces.cli.table import table
from dspex.sync import run

_DEFAULT = "(default)"


@click.group("model", cls=SuggestingGroup)
def model_command() -> None:
    """Commands on the models that dspex.toml configures."""


@model_command.command("list")
@json_option
def list_command(*, as_json: bool) -> int:
    """List the models of [models.NAME] in dspex.toml, and the default model."""
    settings = settings_of()
    rows = [
        {
            "name": name,
            "kind": _kind(fields),
            "models": ", ".join(_parts(fields)),
            **_extras(fields),
        }
        for name, fields in settings.models.items()
    ]
    if settings.model is not None:
        rows.append({"name": _DEFAULT, "kind": "model", "models": settings.model, "wrappers": ""})
    return _show(rows, ("name", "kind", "models", "wrappers"), as_json=as_json)


@model_command.command("check")
@click.argument("names", nargs=-1)
@json_option
def check_command(*, names: tuple[str, ...], as_json: bool) -> int:
    """Ask each configured model once, or those with these NAMES; show latency or error.

    Each model of a route is asked, past caches, retries and the circuits of the route. The exit
    code is 1 if one does not answer. This costs a few tokens for each model.
    """
    settings = settings_of()
    resolver = ModelResolver(settings)
    targets = [*_targets(settings, names)]

    async def check() -> list[dict[str, Any]]:
        try:
            return [
                {"name": name, "model": text, **await _ask(resolver, text)}
                for name, text in targets
            ]
        finally:
            await resolver.aclose()

    rows = run(check())
    _show(rows, ("name", "model", "status", "ms", "error"), as_json=as_json)
    return 0 if all(row["status"] == "ok" for row in rows) else 1


def _targets(settings: Settings, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each name with each model string behind it."""
    for name in names or (*settings.models, *((_DEFAULT,) if settings.model else ())):
        text = str(settings.model) if name == _DEFAULT else name
        for leaf in dict.fromkeys(_leaves(settings, text)):
            yield name, leaf


def _leaves(settings: Settings, text: str) -> Iterator[str]:
    fields = settings.models.get(text)
    if fields is None or set(fields) & {"timeout", "extra_body"}:
        yield text  # these change what is sent: ask it as it is
        return
    for part in _parts(fields):
        yield from _leaves(settings, part)


async def _ask(resolver: ModelResolver, text: str) -> dict[str, Any]:
    from dspex.execution.clients import Request
    from dspex.execution.clients.attempts import Attempts, end_attempts, share_attempts
    from dspex.language.records import Message

    request = Request(
        messages=(Message("user", "Answer with: ok"),),
        max_tokens=16,
        rollout=time.time_ns(),  # no cache has it
    )
    token = share_attempts(Attempts(0))

    start = time.perf_counter()
    try:
        await resolver(text).complete(request)
        status, error = "ok", ""
    except DspexError as failure:
        status, error = "failed", failure.message
    finally:
        end_attempts(token)
    return {"status": status, "ms": round((time.perf_counter() - start) * 1000), "error": error}


def _kind(fields: Any) -> str:
    if "models" in fields or "fallback" in fields:
        return f"route: {fields.get('policy', 'fallback')}"
    return "model"


def _parts(fields: Any) -> list[str]:
    model = [fields["model"]] if "model" in fields else []
    return [*model, *fields.get("models", ()), *fields.get("fallback", ())]


def _extras(fields: Any) -> dict[str, str]:
    wrappers = [name for name in fields if name not in {"model", "models", "fallback", "policy"}]
    return {"wrappers": ", ".join(wrappers)}


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> int:
    if as_json:
        show_json({"models": rows, "next": None})
    else:
        click.echo(table(rows, columns) if rows else "no models are configured: see dspex.toml")
    return 0
