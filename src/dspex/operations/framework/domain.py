"""The type of the list of all resources and actions."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from dspex.errors import DefinitionError
from dspex.operations.framework.action import Action
from dspex.operations.framework.resource import Resource


class Domain(Mapping[str, Resource[Any]]):
    """All resources by name and all actions. No resource refers to a later one.

    Tables, API types, routes and documentation are derived from it, once for each domain: it is
    equal to itself only.
    """

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        *resources: Resource[Any],
        actions: tuple[Action[Any, Any], ...] | Callable[[], tuple[Action[Any, Any], ...]] = (),
        extensions: tuple[Resource[Any], ...] = (),
    ) -> None:
        """Take the resources and actions; `extensions` are the resources that users define.

        A function that returns the actions is called at their first use.
        """
        self._resources = {resource.name: resource for resource in resources}
        self._actions = actions
        self.extensions = extensions

    @cached_property
    def actions(self) -> tuple[Action[Any, Any], ...]:
        """All actions."""
        return self._actions() if callable(self._actions) else self._actions

    def __getitem__(self, name: str) -> Resource[Any]:
        return self._resources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)

    def of(self, entity: type) -> Resource[Any]:
        """Return the resource whose rows are of class `entity`."""
        return next(resource for resource in self._resources.values() if resource.entity is entity)

    def extended(
        self, *resources: Resource[Any], actions: tuple[Action[Any, Any], ...] = ()
    ) -> "Domain":
        """Return this domain with more resources and actions.

        Raises:
            DefinitionError: a name is taken or reserved for lists and their filters, or a resource
                refers to a resource that is not defined before it.
        """
        names = {
            *self,
            *(resource.plural for resource in self.values()),
            *(action.name for action in self.actions),
        }
        for new_name in (
            *(resource.name for resource in resources),
            *(action.name for action in actions),
        ):
            if new_name in names:
                raise DefinitionError(f"the domain has a {new_name!r} already; choose another name")
            names.add(new_name)
        resource_names = set(self)
        for resource in resources:
            resource_names.add(resource.name)
            if attribute_name := resource.reserved_attribute:
                raise DefinitionError(
                    f"the name {resource.name}.{attribute_name} is reserved for lists and "
                    "filters; choose another name"
                )
            for name, target in {**resource.references, **resource.pointers}.items():
                if target not in resource_names:
                    raise DefinitionError(
                        f"{resource.name}.{name} refers to {target!r}, which is not a resource "
                        "defined before it"
                    )
        return Domain(
            *self.values(),
            *resources,
            actions=(*self.actions, *actions),
            extensions=(*self.extensions, *resources),
        )
