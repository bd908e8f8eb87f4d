"""`dspex do ACTION FIELD=VALUE ...`: every action of the domain, by its name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import msgspec

from dspex.bootstrap import Services, domain_of
from dspex.errors import InvalidError, NotFoundError, suggest
from dspex.operations.resources import DOMAIN, Action, Domain
from dspex.surfaces.cli.files import file_text
from dspex.surfaces.cli.options import settings_of, state_option, with_services
from dspex.surfaces.cli.output import show_json, table
from dspex.surfaces.cli.targets import code_root


@click.command("do")
@click.argument("action", required=False)
@click.argument("values", nargs=-1, metavar="FIELD=VALUE ...")
@state_option
def do_command(*, action: str | None, values: tuple[str, ...], state_dir: Path | None) -> int:
    """Carry out ACTION and print what it gives as JSON; without one, list all actions.

    A VALUE that is JSON is taken as JSON, everything else as text; FIELD=@path reads a file.
    """
    settings = settings_of(state_dir=state_dir)
    domain = domain_of(settings, code_root())
    named = {found.name: found for found in domain.actions}
    if action is None:
        rows = [{"action": found.name, "what it does": found.description} for found in domain.actions]
        click.echo(table(rows, ["action", "what it does"]))
        return 0
    if action not in named:
        raise NotFoundError(f"there is no action {action!r}.{suggest(action, named)} `dspex do` lists them")
    given = input_of(named[action], values)

    async def work(services: Services) -> Any:  # noqa: ANN401  # a row, or the action's own result
        return await services.operations.perform(named[action], given)

    show_json(shown(with_services(settings, work), domain))
    return 0


def input_of(action: Action, values: tuple[str, ...]) -> Any:  # noqa: ANN401  # the action's input
    """Return the input of an action from FIELD=VALUE texts.

    Raises:
        InvalidError: a field is unknown, missing or of another type.
    """
    known = [part.name for part in dataclasses.fields(action.input)]
    found: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InvalidError(
                f"{text!r} is no FIELD=VALUE of {action.name}.{suggest(name, known)} It has: {', '.join(known)}"
            )
        found[name] = _value(value)
    try:
        return msgspec.convert(found, action.input)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{action.name}: {error}; its fields are: {', '.join(known)}") from error


def _value(text: str) -> Any:  # noqa: ANN401  # any JSON value
    if text.startswith("@"):
        text = file_text(Path(text[1:]))
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except RecursionError:
        raise InvalidError("lists and objects in a value are nested too deeply") from None


def shown(found: Any, domain: Domain = DOMAIN) -> Any:  # noqa: ANN401  # a row or a result, to JSON
    """Return a row without what is hidden in it, or a result with its rows so."""
    resource = next((known for known in domain.values() if known.entity is type(found)), None)
    if resource is None and not dataclasses.is_dataclass(found):
        return found
    if resource is not None:
        return resource.values_of(found)
    return {part.name: shown(getattr(found, part.name), domain) for part in dataclasses.fields(found)}
