"""The parameters of a command that follow from the input of an action."""

import dataclasses
import json
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import click
import msgspec

from dspex.errors import InvalidError
from dspex.operations.framework.action import Action
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.resource import Resource
from dspex.surfaces.cli.complete import complete_row
from dspex.surfaces.cli.field_help import (
    field_help,
    is_list_of_texts,
    members_of,
    type_help,
)
from dspex.surfaces.cli.files import read_text_file
from dspex.surfaces.cli.references import find_row, may_be_id, noun_of
from dspex.surfaces.cli.verbs import with_commands

REQUIRED: Final = object()
_FORMS: Final = frozenset(map(type_help, (datetime, list[str], dict)))  # how a value is written


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter: a field of the input, or a reference to a row by name or id (two fields).

    `resource` is what an id refers to, and `description` what the input says about the field.
    """

    name: str
    hint: Any
    default: Any = REQUIRED
    id_field: str | None = None
    resource: Resource[Any] | None = None
    description: str = ""

    @property
    def is_required(self) -> bool:
        """Whether the action cannot do without it."""
        return self.default is REQUIRED

    def argument(self) -> click.Argument:
        """Return the argument that gives its value."""
        metavar = self.name.upper().replace("_", "-")
        complete = complete_row(self.resource)
        return click.Argument([self.name], metavar=metavar, shell_complete=complete)

    def option(self) -> click.Option:
        """Return the option that gives its value, with its type and default."""
        flag = f"--{self.name.replace('_', '-')}"
        if self.hint is bool:
            return click.Option([flag], is_flag=True, default=None, help=self._help)
        complete = complete_row(self.resource)
        if is_list_of_texts(self.hint):
            flags = [*([flag[:-1]] if flag.endswith("s") else []), flag, self.name]
            return click.Option(flags, multiple=True, help=self._help, shell_complete=complete)
        kind = _click_type(self.hint)
        return click.Option([flag], type=kind, help=self._help, shell_complete=complete)

    @property
    def _help(self) -> str:
        form = type_help(self.hint)
        if self.resource is not None:
            form = f"The {noun_of(self.resource).replace('-', ' ')}: its name or id."
        parts = [self.description, form if not self.description or form in _FORMS else ""]
        is_number = isinstance(self.default, int | float) and not isinstance(self.default, bool)
        if is_number or (self.default is not REQUIRED and self.default):
            parts.append(f"Default: {_text(self.default)}.")
        return " ".join(part for part in parts if part)


def parameters_of(action: Action[Any, Any], domain: Domain) -> list[Parameter]:
    """Return the parameters of an action; a pair such as `program_id` and `name` becomes one."""
    hints = typing.get_type_hints(action.input)
    fields = {part.name: part for part in dataclasses.fields(action.input)}
    parameters: list[Parameter] = []
    used: set[str] = set()
    for name, part in fields.items():
        if name in used:
            continue
        resource = _referred(name, action.resource, domain)
        if resource is None or not _is_id(hints[name]):
            default = _default(part)
            description = with_commands(field_help(action.input, name), domain)
            parameters.append(
                Parameter(name=name, hint=hints[name], default=default, description=description)
            )
            continue
        other = next((each for each in (resource.name, "name") if each in fields), None)
        if other is None or other in used or name == "id":
            parameters.append(
                Parameter(
                    name=name.removesuffix("_id") if name != "id" else noun_of(action.resource),
                    hint=str,
                    default=_default(part),
                    id_field=name,
                    resource=resource,
                    description=with_commands(field_help(action.input, name), domain),
                )
            )
            continue
        used.add(other)  # one of both is enough, so neither is required
        description = with_commands(field_help(action.input, other), domain)
        parameters.append(
            Parameter(
                name=other,
                hint=str,
                default=None,
                id_field=name,
                resource=resource,
                description=description,
            )
        )
    return parameters


async def input_of(
    action: Action[Any, Any],
    values: Mapping[str, Any],
    *,
    parameters: list[Parameter],
    operations: Operations,
) -> Any:
    """Return the input of an action from the values of its parameters; None is an absent value.

    Raises:
        InvalidError: a value is of another type; the message names the field.
        NotFoundError: no row has this id.
    """
    names = {part.name for part in dataclasses.fields(action.input)}
    fields: dict[str, Any] = {}
    for parameter in parameters:
        value = values.get(parameter.name)
        if value is None or value == ():
            continue
        if parameter.id_field is None:
            fields[parameter.name] = _parse(parameter.name, value, parameter.hint)
        elif parameter.name in names and not may_be_id(value):
            fields[parameter.name] = value
        elif parameter.resource is not None:
            row = await find_row(operations.list, parameter.resource, value)
            fields[parameter.id_field] = str(row.id)
    try:
        return msgspec.convert(fields, action.input)
    except msgspec.ValidationError as error:
        raise InvalidError(
            f"{action.name}: {error}; its fields are: {', '.join(sorted(names))}"
        ) from error


def _referred(name: str, own: Resource[Any], domain: Domain) -> Resource[Any] | None:
    if name == "id":
        return own
    return domain.get(name.removesuffix("_id")) if name.endswith("_id") else None


def _is_id(hint: Any) -> bool:
    return UUID in (hint, *typing.get_args(hint))


def _default(part: "dataclasses.Field[Any]") -> Any:
    if part.default_factory is not dataclasses.MISSING:
        return part.default_factory()
    return REQUIRED if part.default is dataclasses.MISSING else part.default


def _click_type(hint: Any) -> click.ParamType[Any, Any]:
    members = members_of(hint)
    if len(members) > 1:
        return click.STRING
    if typing.get_origin(members[0]) is Literal:
        return click.Choice([str(choice) for choice in typing.get_args(members[0])])
    kinds: dict[Any, click.ParamType[Any, Any]] = {
        int: click.INT,
        float: click.FLOAT,
        bool: click.BOOL,
    }
    return kinds.get(members[0], click.STRING)


def _parse(name: str, value: Any, hint: Any) -> Any:
    """Return the value of an option: text for texts, a list for texts with commas, else JSON."""
    if isinstance(value, tuple):  # of a repeated option
        return [part for text in value for part in _parse(name, text, hint)]
    if not isinstance(value, str):
        return value
    if name == "text" and value == "-":
        return sys.stdin.read().rstrip("\r\n")
    if value.startswith("@"):
        value = read_text_file(Path(value[1:]))
    members = members_of(hint)
    if members[0] is datetime:
        return _time(name, value)
    if str in members or typing.get_origin(members[0]) is Literal:
        return value
    is_list = typing.get_origin(members[0]) is list
    if is_list and not value.lstrip().startswith("["):
        return [text.strip() for text in value.split(",") if text.strip()]
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
    except RecursionError:
        raise InvalidError(f"{name}: lists and objects are nested too deeply") from None


def _time(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidError(
            f"{name}: {text!r} is not a time such as 2030-01-01T00:00:00+00:00"
        ) from None


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
