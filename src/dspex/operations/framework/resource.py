"""The declaration of a resource; its table, API types and documentation are derived from it."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from dspex.error_text import alternatives
from dspex.errors import ConflictError, DefinitionError, InternalError
from dspex.operations.framework.access import Actor, Scope
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS, Comparison, kind_of
from dspex.operations.framework.policies import OWN_WORKSPACE, AccessPolicy

E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The common columns. `workspace` is the tenant; `lock_version` counts the changes."""

    id: UUID
    workspace: str
    created_at: datetime
    updated_at: datetime
    lock_version: int = 0


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a resource; `kind` is a name in `ATTRIBUTE_KINDS`.

    `choices` are the values of an enumerated text, such as a status.
    """

    name: str
    kind: str
    is_nullable: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of a list, by its name on every surface: `cost_usd_gte`, `status_in`, `name`."""

    name: str
    attribute: Attribute
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Transition:
    """A state transition; it is only allowed from the states in `sources`."""

    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, kw_only=True)
class Calculation:
    """A value of a row that is computed on output and not stored.

    Lists cannot filter or sort by it. `compute` takes the row. Its name is the name of the value,
    its return annotation the type, and the first paragraph of its docstring the description. It may
    read only the attributes in `of`, because others may not have been loaded.
    """

    of: tuple[str, ...]
    compute: Callable[[Any], Any]

    @cached_property
    def attribute(self) -> Attribute:
        """The name and type as an attribute."""
        return _attribute(self.compute.__name__, typing.get_type_hints(self.compute)["return"])

    @property
    def description(self) -> str:
        """The description, in one sentence."""
        return " ".join((self.compute.__doc__ or "").split("\n\n")[0].split())


@dataclass(frozen=True, kw_only=True)
class Resource(Generic[E]):
    """An entity class and the rules for all its rows.

    Attributes are the dataclass fields of `entity`; the field `status`, if present, is the state.
    `references` maps attributes to the resources that they refer to; `pointers` does the same
    without a foreign key, for resources that refer to each other. `unique` lists groups of
    attributes that no two rows share. Rows are deleted with the row that the attribute `owner`
    refers to. `hidden` attributes never appear in an API or in the audit trail; `redactions` maps
    attributes to functions that return what callers who are not admins see of their values. Lists
    cannot be sorted by `unsorted` attributes, which may be long. `calculations` are shown beside
    the attributes. Reading requires the scope `reading`, and `policies` narrow the rows. Every
    change of a resource that `is_audited` is recorded in the audit trail. A resource that
    `is_internal` has a table but no API. The rows that actions add to a resource that `is_counted`
    count against the quota of the workspace.
    """

    name: str
    plural: str
    entity: type[E]
    transitions: Mapping[str, Transition] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    pointers: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    unique: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    hidden: tuple[str, ...] = ("workspace", "lock_version")
    redactions: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    unsorted: tuple[str, ...] = ()
    calculations: tuple[Calculation, ...] = ()
    reading: Scope = "read"
    policies: tuple[AccessPolicy, ...] = (OWN_WORKSPACE,)
    is_audited: bool = True
    is_internal: bool = False
    is_counted: bool = True

    def __post_init__(self) -> None:
        """Check the calculations.

        Raises:
            DefinitionError: a calculation reads an unknown attribute, or has the name of an
            attribute.
        """
        names = {
            entity_field.name
            for entity_field in dataclasses.fields(typing.cast("Any", self.entity))
        }
        for calculation in self.calculations:
            name = calculation.compute.__name__
            if name in names:
                raise DefinitionError(
                    f"{self.name} has an attribute {name!r}; choose another name for the "
                    "calculation"
                )
            if unknown := set(calculation.of) - names:
                raise DefinitionError(
                    f"the calculation {name!r} of {self.name} reads {min(unknown)!r}, which is "
                    "not an attribute"
                )

    @cached_property
    def attributes(self) -> tuple[Attribute, ...]:
        """All attributes in the order of the entity's fields."""
        hints = typing.get_type_hints(self.entity)
        return tuple(
            _attribute(entity_field.name, hints[entity_field.name])
            for entity_field in dataclasses.fields(typing.cast("Any", self.entity))
        )

    @cached_property
    def public_attributes(self) -> tuple[Attribute, ...]:
        """The attributes without the hidden ones."""
        return tuple(
            attribute for attribute in self.attributes if attribute.name not in self.hidden
        )

    @cached_property
    def visible(self) -> tuple[Attribute, ...]:
        """The public attributes, then the calculations."""
        return (
            *self.public_attributes,
            *(calculation.attribute for calculation in self.calculations),
        )

    @cached_property
    def values_of(self) -> Callable[[Any], dict[str, Any]]:
        """A function that returns the public attributes and calculations of a row by name."""
        names = tuple(attribute.name for attribute in self.public_attributes)
        get, computed = (
            attrgetter(*names),
            [
                (calculation.attribute.name, calculation.compute)
                for calculation in self.calculations
            ],
        )

        def read(row: Any) -> dict[str, Any]:
            values = dict(zip(names, get(row), strict=True))
            for name, compute in computed:
                values[name] = compute(row)
            return values

        return read

    def values_for(self, actor: Actor, row: Any) -> dict[str, Any]:
        """Return the public attributes and calculations of a row as `actor` may see them."""
        values = self.values_of(row)
        if self.redactions and not actor.may("admin"):
            values |= {name: redact(values[name]) for name, redact in self.redactions.items()}
        return values

    @cached_property
    def filters(self) -> Mapping[str, Filter]:
        """All list filters by name, derived from the kinds of the shown attributes."""
        attributes = (attribute for attribute in self.public_attributes if attribute.name != "id")
        return {
            list_filter.name: list_filter
            for attribute in attributes
            for list_filter in _filters(attribute)
        }

    @property
    def owned_by(self) -> str | None:
        """The name of the resource that the attribute `owner` refers to, None without one."""
        owners = {**self.pointers, **self.references}
        return None if self.owner is None else owners.get(self.owner)

    @property
    def reserved_attribute(self) -> str | None:
        """An attribute whose name clashes with another one.

        The other is a list argument or the filter of another attribute.
        """
        filter_names = {
            list_filter.name
            for attribute in self.public_attributes
            for list_filter in _filters(attribute)
            if list_filter.comparison != "eq"
        }
        reserved_names = filter_names | ({"first", "after", "sort"} & self.filters.keys())
        return next(
            (attribute.name for attribute in self.attributes if attribute.name in reserved_names),
            None,
        )

    @cached_property
    def sortable(self) -> Mapping[str, Attribute]:
        """The attributes that lists can be sorted by."""
        attributes = (
            attribute
            for attribute in self.public_attributes
            if ATTRIBUTE_KINDS[attribute.kind].is_sortable
        )
        return {
            attribute.name: attribute
            for attribute in attributes
            if attribute.name not in self.unsorted
        }

    def step(self, action: str, status: str) -> str:
        """Return the state after `action` in the state `status`.

        Raises:
            ConflictError: the action is not allowed in this state.
        """
        transition = self.transitions[action]
        if status not in transition.sources:
            sources = alternatives(transition.sources)
            raise ConflictError(
                f"{self.name} is {status}: {action} needs it to be {sources}"
                f"{self._way_to(transition, status)}",
                status=status,
            )
        return transition.target

    def _way_to(self, transition: Transition, status: str) -> str:
        """Return which action makes one possible that leaves the state as it is."""
        if transition.target not in transition.sources:
            return ""
        names = [
            name
            for name, way in self.transitions.items()
            if status in way.sources and way.target in transition.sources
        ]
        return f"; {names[0]} makes it {transition.target}" if names else ""


def _filters(attribute: Attribute) -> list[Filter]:
    comparisons: tuple[Comparison, ...] = (
        ("eq", "in") if attribute.choices else ATTRIBUTE_KINDS[attribute.kind].comparisons
    )
    if attribute.is_nullable and comparisons:
        comparisons = (*comparisons, "is_null")
    return [
        Filter(attribute.name if kind == "eq" else f"{attribute.name}_{kind}", attribute, kind)
        for kind in comparisons
    ]


def _attribute(name: str, hint: Any) -> Attribute:
    is_nullable = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        is_nullable, hint = True, members[0]
    if typing.get_origin(hint) is Literal:
        return Attribute(name, "text", is_nullable, typing.get_args(hint))
    kind = kind_of(typing.get_origin(hint) or hint)
    if kind is None:
        raise InternalError(f"attribute {name} has the unsupported type {hint!r}")
    return Attribute(name, kind, is_nullable)
