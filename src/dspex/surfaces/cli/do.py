"""`dspex do ACTION FIELD=VALUE ...`: call any action of the domain by name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import msgspec

from dspex.bootstrap import Services, domain_of
from dspex.error_text import suggest
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.framework.action import Action
from dspex.surfaces.cli.complete import complete_action
from dspex.surfaces.cli.files import read_text_file
from dspex.surfaces.cli.nouns import visible_values
from dspex.surfaces.cli.options import settings_of, state_option, with_services
from dspex.surfaces.cli.output import show_json
from dspex.surfaces.cli.table import table
from dspex.surfaces.cli.targets import code_root


@click.command("do")
@click.argument("action", required=False, shell_complete=complete_action)
@click.argument("values", nargs=-1, metavar="FIELD=VALUE ...")
@state_option
def do_command(*, action: str | None, values: tuple[str, ...], state_dir: Path | None) -> int:
    """Call ACTION and print its result as JSON; without ACTION, list all actions.

    A VALUE is JSON if it can be parsed as JSON, else text; FIELD=@path reads a file.
    """
    settings = settings_of(state_dir=state_dir)
    domain = domain_of(settings, code_root())
    actions = {action.name: action for action in domain.actions}
    if action is None:
        rows = [
            {"action": name, "what it does": each.description} for name, each in actions.items()
        ]
        click.echo(table(rows, ["action", "what it does"]))
        return 0
    if action not in actions:
        raise NotFoundError(
            f"unknown action {action!r}.{suggest(action, actions)} `dspex do` lists them"
        )
    request = parse_input(actions[action], values)

    async def work(services: Services) -> Any:
        return await services.operations.perform(actions[action], request)

    show_json(visible_values(with_services(settings, work), domain))
    return 0


def parse_input(action: Action[Any, Any], values: tuple[str, ...]) -> Any:
    """Return the input of an action from FIELD=VALUE texts.

    Raises:
        InvalidError: a field is unknown, missing or of another type.
    """
    names = [part.name for part in dataclasses.fields(action.input)]
    fields: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or name not in names:
            raise InvalidError(
                f"{text!r} is not a FIELD=VALUE of {action.name}.{suggest(name, names)} It has: "
                f"{', '.join(names)}"
            )
        fields[name] = _value(value)
    try:
        return msgspec.convert(fields, action.input)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{action.name}: {error}; its fields are: {', '.join(names)}") from error


def _value(text: str) -> Any:
    if text.startswith("@"):
        text = read_text_file(Path(text[1:]))
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except RecursionError:
        raise InvalidError("lists and objects in a value are nested too deeply") from None
