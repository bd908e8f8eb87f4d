"""GraphQL types, derived from resources and from the inputs and results of actions."""

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

import strawberry
from strawberry.scalars import JSON

from dspex.errors import InvalidError
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.query_arguments import where_of
from dspex.operations.framework.resource import Attribute, Filter, Resource
from dspex.operations.framework.store import Sort
from dspex.surfaces.api.graphql.context import GraphQLContext

_PARENT: Any = strawberry.Parent[Any]  # type: ignore[misc]  # for classes made here
_SCALAR_HINTS: dict[Any, Any] = {dict: JSON, list: JSON}


def _scalar(kind: str) -> Any:
    hint = ATTRIBUTE_KINDS[kind].hints[0]
    return _SCALAR_HINTS.get(hint, hint)


@strawberry.interface(name="Node", description="Any row; no two rows have the same id.")
class NodeInterface:
    """Relay's Node."""

    id: strawberry.ID


@strawberry.type(description="Where a page of a connection ends.")
class PageInfo:
    """Relay's PageInfo."""

    has_next_page: bool
    end_cursor: str | None


def pascal(name: str) -> str:
    """Return `name` as a type's name: program_version -> ProgramVersion."""
    return "".join(part.capitalize() for part in name.split("_"))


def camel(name: str) -> str:
    """Return `name` as a field's name: current_version -> currentVersion."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


class SchemaTypes:
    """The object, filter and connection types of all resources of a domain.

    The rows themselves are the objects, without copies; `rows.py` sets their resolvers.
    """

    def __init__(self, domain: Domain) -> None:
        """Create all types."""
        self.domain = domain
        self._enums: dict[tuple[str, ...], type[enum.Enum]] = {}
        bodies = {
            resource.name: type(pascal(resource.name), (NodeInterface,), {})
            for resource in domain.values()
        }
        self.objects: dict[str, Any] = {
            resource.name: self._object(resource, bodies) for resource in domain.values()
        }
        self.orders = {resource.name: _order(resource) for resource in domain.values()}
        self.filters = {resource.name: self._filter(resource) for resource in domain.values()}
        self.connections = {
            name: _connection(domain[name], node) for name, node in self.objects.items()
        }

    def where(self, resource: Resource[Any], filter_: Any) -> dict[str, Any]:
        """Return the conditions of a filter.

        Raises:
            InvalidError: a value does not fit its attribute.
        """
        if filter_ is None:
            return {}
        values = {
            name: value
            for name in resource.filters
            if (value := getattr(filter_, name)) is not None
        }
        return where_of(resource, {name: _plain(value) for name, value in values.items()})

    def _object(self, resource: Resource[Any], bodies: Mapping[str, type]) -> Any:
        """Fill the class of a resource; it may refer to classes that are filled later."""
        body: Any = bodies[resource.name]
        hints = {part.name: self._hint(resource, part) for part in resource.visible}
        for pointer, target in {**resource.references, **resource.pointers}.items():
            part = next(part for part in resource.attributes if part.name == pointer)
            hints[pointer.removesuffix("_id")] = (
                bodies[target] | None if part.is_nullable else bodies[target]
            )
        body.__annotations__ = hints
        for calculation in resource.calculations:
            field = strawberry.field(description=calculation.description)
            setattr(body, calculation.attribute.name, field)
        return strawberry.type(body, description=inspect.cleandoc(resource.entity.__doc__ or ""))

    def _hint(self, resource: Resource[Any], part: Attribute) -> Any:
        if part.name == "id":
            return strawberry.ID
        hint = self._enum(resource, part) if part.choices else _scalar(part.kind)
        return hint | None if part.is_nullable else hint

    def _enum(self, resource: Resource[Any], part: Attribute) -> Any:
        if part.choices not in self._enums:
            name = f"{pascal(resource.name)}{pascal(part.name)}"
            members = {choice.upper(): choice for choice in part.choices}
            choices = enum.Enum(name, members)  # type: ignore[misc]
            self._enums[part.choices] = strawberry.enum(choices)
        return self._enums[part.choices]

    def _filter(self, resource: Resource[Any]) -> Any:
        hints = {
            name: self._filter_hint(resource, filter_) for name, filter_ in resource.filters.items()
        }
        body = {"__annotations__": hints, **dict.fromkeys(hints)}
        description = f"Only {resource.plural.replace('_', ' ')} for which all of this is true."
        return strawberry.input(
            type(f"{pascal(resource.name)}Filter", (), body), description=description
        )

    def _filter_hint(self, resource: Resource[Any], filter_: Filter) -> Any:
        part = filter_.attribute
        if filter_.comparison == "is_null":
            return bool | None
        hint = self._enum(resource, part) if part.choices else _scalar(part.kind)
        is_list = filter_.comparison == "in"
        return (list[hint] if is_list else hint) | None  # type: ignore[valid-type]

    def result_of(self, result: type) -> Any:
        """Return the type of an action's result that is not a row; it has rows and plain values."""
        rows = {resource.entity: self.objects[resource.name] for resource in self.domain.values()}
        hints = {}
        for name, hint in typing.get_type_hints(result).items():
            hints[name] = rows.get(hint) or _plain_hint(hint)
        body = type(result.__name__, (), {"__annotations__": hints})
        return strawberry.type(body, description=inspect.cleandoc(result.__doc__ or ""))


def _order(resource: Resource[Any]) -> Any:
    """Return an enum of all orders; its values are arguments of `Query`."""
    members: dict[str, tuple[Sort | None, bool]] = {
        "NEWEST_FIRST": (None, False),
        "OLDEST_FIRST": (None, True),
    }
    for name in resource.sortable:
        members[f"{name.upper()}_ASC"] = (Sort(name), True)
        members[f"{name.upper()}_DESC"] = (Sort(name, is_descending=True), False)
    order = enum.Enum(f"{pascal(resource.name)}Order", members)  # type: ignore[misc]
    description = (
        "The order of rows; rows without a value come last, equal ones in the order of their "
        "creation."
    )
    return strawberry.enum(order, description=description)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value.value if isinstance(value, enum.Enum) else value


def _connection(resource: Resource[Any], node: Any) -> Any:
    edge: Any = type(
        f"{pascal(resource.name)}Edge", (), {"__annotations__": {"node": node, "cursor": str}}
    )
    edge = strawberry.type(edge, description="One element of a page and its cursor.")

    async def total_count(root: Any, info: Any) -> int:
        count: int = await info.context.operations.count(resource, root.where)
        return count

    total_count.__annotations__ = {
        "root": _PARENT,
        "info": strawberry.Info[GraphQLContext, None],
        "return": int,
    }
    hints = {
        "edges": list[edge],
        "nodes": list[node],
        "page_info": PageInfo,
        "where": strawberry.Private[dict[str, Any]],
    }
    count_field = strawberry.field(
        resolver=total_count, description="The number of all rows; counted only if it is selected."
    )
    connection: Any = type(
        f"{pascal(resource.name)}Connection",
        (),
        {"__annotations__": hints, "total_count": count_field},
    )
    connection.edge = edge
    return strawberry.type(connection, description="A page.")


@cache
def input_of(cls: type) -> Any:
    """Return the GraphQL input type for the input class of an action, or for a part of it."""
    hints, body = {}, {}
    resolved = typing.get_type_hints(cls)
    for part in dataclasses.fields(cls):
        hints[part.name] = _plain_hint(resolved[part.name])
        if part.default is not dataclasses.MISSING:
            body[part.name] = part.default
        elif part.default_factory is not dataclasses.MISSING:
            body[part.name] = strawberry.field(default_factory=part.default_factory)
    input_type = type(f"{cls.__name__}Input", (), {"__annotations__": hints, **body})
    return strawberry.input(input_type, description=inspect.cleandoc(cls.__doc__ or ""))


def _plain_hint(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = [_plain_hint(arg) for arg in typing.get_args(hint) if arg is not type(None)]
        return members[0] | None
    if part := _part_of(hint):
        return list[input_of(part)]  # type: ignore[misc]  # a class made here
    if typing.get_origin(hint) is typing.Literal:
        return str
    if typing.get_origin(hint) is list and typing.get_args(hint) in {
        (str,),
        (int,),
        (float,),
        (bool,),
    }:
        return hint
    return _SCALAR_HINTS.get(typing.get_origin(hint) or hint, hint)


def _part_of(hint: Any) -> type | None:
    """Return the class of the elements if `hint` is a list of dataclasses, else None."""
    members = typing.get_args(hint) if typing.get_origin(hint) is list else ()
    return next(
        (
            member
            for member in members
            if isinstance(member, type) and dataclasses.is_dataclass(member)
        ),
        None,
    )


def action_input(cls: type, value: Any) -> Any:
    """Return the input of an action, a `cls`, from its GraphQL form.

    Raises:
        InvalidError: a JSON value is not the object or list that is required.
    """
    resolved = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for part in dataclasses.fields(cls):
        member, hint = getattr(value, part.name), resolved[part.name]
        if typing.get_origin(hint) is dict and not isinstance(member, Mapping):
            raise InvalidError(f"{part.name} has to be a JSON object, not {member!r}")
        if typing.get_origin(hint) is list and not isinstance(member, list):
            raise InvalidError(f"{part.name} has to be a JSON list, not {member!r}")
        if kind := _part_of(hint):
            member = [action_input(kind, element) for element in member]
        values[part.name] = member
    return cls(**values)
