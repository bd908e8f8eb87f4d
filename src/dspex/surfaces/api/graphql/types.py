"""GraphQL types, derived from resources and from the inputs of actions."""

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from dspex.errors import InvalidError
from dspex.operations.resources import Domain, Resource
from dspex.operations.resources.resource import Attribute
from dspex.surfaces.api.graphql.request import Request

_SCALARS: dict[str, Any] = {
    "uuid": strawberry.ID,
    "text": str,
    "integer": int,
    "number": float,
    "flag": bool,
    "time": datetime,
    "json": JSON,
}
_PARENT: Any = strawberry.Parent[Any]  # type: ignore[misc]  # an annotation for classes that are made here
_INPUT_SCALARS: dict[Any, Any] = {UUID: strawberry.ID, dict: JSON, list: JSON}


@strawberry.type(description="Where a page of a connection ends.")
class PageInfo:
    """Relay's PageInfo."""

    has_next_page: bool
    end_cursor: str | None


def pascal(name: str) -> str:
    """Return `name` as a type's name: program_version -> ProgramVersion."""
    return "".join(part.capitalize() for part in name.split("_"))


class Types:
    """The object, filter and connection types of all resources of a domain."""

    def __init__(self, domain: Domain) -> None:
        """Make all types."""
        self._domain = domain
        self._enums: dict[tuple[str, ...], type[enum.Enum]] = {}
        self.objects = {resource.name: self._object(resource) for resource in domain.values()}
        for resource in domain.values():
            self._relate(resource)
        self.filters = {resource.name: self._filter(resource) for resource in domain.values()}
        self.connections = {name: _connection(self._domain[name], made) for name, made in self.objects.items()}

    def of_row(self, resource: Resource[Any], row: Any) -> Any:  # noqa: ANN401  # an entity to its object
        """Return the GraphQL object of one row."""
        return self.objects[resource.name](
            **{part.name: self._out(part, getattr(row, part.name)) for part in _shown(resource)}
        )

    def where(self, resource: Resource[Any], given: Any) -> dict[str, Any]:  # noqa: ANN401  # a filter made here
        """Return the attribute values that a filter asks for."""
        found: dict[str, Any] = {}
        for part in _filterable(resource):
            value = getattr(given, part.name, None) if given is not None else None
            if value is not None:
                found[part.name] = uuid_of(value, part.name) if part.kind == "uuid" else getattr(value, "value", value)
        return found

    def _out(self, part: Attribute, value: Any) -> Any:  # noqa: ANN401
        if value is None:
            return None
        if part.choices:
            return self._enums[part.choices](value)
        return str(value) if part.kind == "uuid" else value

    def _object(self, resource: Resource[Any]) -> Any:  # noqa: ANN401  # a class made here
        hints = {part.name: self._hint(resource, part) for part in _shown(resource)}
        made = type(pascal(resource.name), (), {"__annotations__": hints})
        return strawberry.type(made, description=inspect.cleandoc(resource.entity.__doc__ or ""))

    def _hint(self, resource: Resource[Any], part: Attribute) -> Any:  # noqa: ANN401  # an annotation
        hint = self._enum(resource, part) if part.choices else _SCALARS[part.kind]
        return hint | None if part.is_nullable else hint

    def _enum(self, resource: Resource[Any], part: Attribute) -> Any:  # noqa: ANN401
        if part.choices not in self._enums:
            name = f"{pascal(resource.name)}{pascal(part.name)}"
            made = enum.Enum(name, {choice.upper(): choice for choice in part.choices})  # type: ignore[misc]
            self._enums[part.choices] = strawberry.enum(made)
        return self._enums[part.choices]

    def _relate(self, resource: Resource[Any]) -> None:
        """Add a field for each resource that this one points to; all classes exist by now, also in cycles."""
        owner = self.objects[resource.name]
        nullable = {part.name: part.is_nullable for part in resource.attributes}
        for pointer, target in {**resource.references, **resource.pointers}.items():
            name = pointer.removesuffix("_id")
            made = strawberry.field(
                resolver=self._resolver(pointer, self._domain[target], nullable=nullable[pointer]),
                description=f"The {target.replace('_', ' ')} behind `{pointer}`.",
            )
            made.python_name, made.origin = name, owner
            owner.__strawberry_definition__.fields.append(made)

    def _resolver(self, pointer: str, target: Resource[Any], *, nullable: bool) -> Any:  # noqa: ANN401
        async def resolve(root: Any, info: Any) -> Any:  # noqa: ANN401
            key = getattr(root, pointer)
            return None if key is None else self.of_row(target, await info.context.load(target, UUID(key)))

        made = self.objects[target.name]
        resolve.__annotations__ = {
            "root": _PARENT,
            "info": strawberry.Info[Request, None],
            "return": made | None if nullable else made,
        }
        return resolve

    def _filter(self, resource: Resource[Any]) -> Any:  # noqa: ANN401
        hints = {part.name: self._filter_hint(resource, part) for part in _filterable(resource)}
        body = {"__annotations__": hints, **dict.fromkeys(hints)}
        description = f"Only {resource.plural.replace('_', ' ')} whose attributes equal these."
        return strawberry.input(type(f"{pascal(resource.name)}Filter", (), body), description=description)

    def _filter_hint(self, resource: Resource[Any], part: Attribute) -> Any:  # noqa: ANN401
        return (self._enum(resource, part) if part.choices else _SCALARS[part.kind]) | None


def _connection(resource: Resource[Any], node: Any) -> Any:  # noqa: ANN401
    edge: Any = type(f"{pascal(resource.name)}Edge", (), {"__annotations__": {"node": node, "cursor": str}})
    edge = strawberry.type(edge, description="One element of a page and its cursor.")

    async def total_count(root: Any, info: Any) -> int:  # noqa: ANN401
        return await info.context.operations.count(resource, root.where)  # type: ignore[no-any-return]

    total_count.__annotations__ = {
        "root": _PARENT,
        "info": strawberry.Info[Request, None],
        "return": int,
    }
    hints = {
        "edges": list[edge],
        "nodes": list[node],
        "page_info": PageInfo,
        "where": strawberry.Private[dict[str, Any]],
    }
    counted = strawberry.field(resolver=total_count, description="How many there are in all; counted when asked for.")
    made: Any = type(f"{pascal(resource.name)}Connection", (), {"__annotations__": hints, "total_count": counted})
    made.edge = edge
    return strawberry.type(made, description="A page, newest first.")


def _shown(resource: Resource[Any]) -> list[Attribute]:
    return [part for part in resource.attributes if part.name not in resource.hidden]


def _filterable(resource: Resource[Any]) -> list[Attribute]:
    return [part for part in _shown(resource) if part.kind in {"uuid", "text"} and part.name != "id"]


def input_of(given: type) -> Any:  # noqa: ANN401  # a class made here
    """Return the GraphQL input type for the input of an action."""
    hints, body = {}, {}
    resolved = typing.get_type_hints(given)
    for part in dataclasses.fields(given):
        hints[part.name] = _input_hint(resolved[part.name])
        if part.default is not dataclasses.MISSING:
            body[part.name] = part.default
        elif part.default_factory is not dataclasses.MISSING:
            body[part.name] = strawberry.field(default_factory=part.default_factory)
    made = type(f"{given.__name__}Input", (), {"__annotations__": hints, **body})
    return strawberry.input(made, description=inspect.cleandoc(given.__doc__ or ""))


def _input_hint(hint: Any) -> Any:  # noqa: ANN401
    if isinstance(hint, types.UnionType):
        members = [_input_hint(arg) for arg in typing.get_args(hint) if arg is not type(None)]
        return members[0] | None
    if typing.get_origin(hint) is list and typing.get_args(hint)[0] in {str, int, float, bool}:
        return hint
    return _INPUT_SCALARS.get(typing.get_origin(hint) or hint, hint)


def values_of(given: type, value: Any) -> Any:  # noqa: ANN401  # a GraphQL input to an action's input
    """Return the input of an action from its GraphQL form.

    Raises:
        InvalidError: an id is no UUID, or a JSON value is no object where one is needed.
    """
    resolved = typing.get_type_hints(given)
    made: dict[str, Any] = {}
    for part in dataclasses.fields(given):
        found, hint = getattr(value, part.name), resolved[part.name]
        if found is not None and UUID in {hint, *typing.get_args(hint)}:
            found = uuid_of(found, part.name)
        if typing.get_origin(hint) is dict and not isinstance(found, Mapping):
            raise InvalidError(f"{part.name} has to be a JSON object, not {found!r}")
        made[part.name] = found
    return given(**made)


def uuid_of(text: str, field: str) -> UUID:
    """Return the id in `text`.

    Raises:
        InvalidError: it is none.
    """
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError):
        raise InvalidError(
            f"{field}: {text!r} is no id; an id looks like 01a204e7-d265-770f-a3da-97f8004ff7a9"
        ) from None
