"""The declaration of an action; every surface is derived from the list of these."""

import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import signature
from types import ModuleType
from typing import Any, Generic, TypeVar

from dspex.operations.framework.access import Scope
from dspex.operations.framework.policies import OWN_WORKSPACE, AccessPolicy
from dspex.operations.framework.resource import Resource

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Generic[RequestT, ResultT]):
    """One action: `run` takes `Operations` and an `input`, and returns a row of `resource`.

    It requires `scope` and the admission of all `policies`, and changes only rows that the policies
    cover. Whatever `run` writes through the store of the operations is recorded in the audit trail.
    If it returns something other than a row, `result` is the dataclass: of rows and plain values.
    """

    name: str
    resource: Resource[Any]
    input: type
    scope: Scope
    description: str
    run: Callable[[Any, RequestT], Awaitable[ResultT]]
    result: type | None = None
    policies: tuple[AccessPolicy, ...] = (OWN_WORKSPACE,)

    async def __call__(self, operations: Any, request: RequestT) -> ResultT:
        """Run the action without asking whether the actor may; see `Operations.perform`."""
        return await self.run(operations, request)

    @property
    def terms(self) -> str:
        """Who may perform this action, in one sentence."""
        names = [policy.name for policy in self.policies if policy is not OWN_WORKSPACE]
        return f"Needs the scope {self.scope}{''.join(f'; for {name}' for name in names)}."


def action(
    resource: Resource[Any],
    *,
    scope: Scope,
    policies: tuple[AccessPolicy, ...] = (OWN_WORKSPACE,),
) -> Callable[[Callable[[Any, RequestT], Awaitable[ResultT]]], Action[RequestT, ResultT]]:
    """Declare a function of `Operations` and an input as an action on `resource`.

    Its name is the name of the action, the type of its second parameter the input, its return type
    the result, and the first line of its docstring the description.
    """

    def declare(
        function: Callable[[Any, RequestT], Awaitable[ResultT]],
    ) -> Action[RequestT, ResultT]:
        types = typing.get_type_hints(function)
        _, request = signature(function).parameters
        result = types["return"]
        return Action(
            name=function.__name__,
            resource=resource,
            input=types[request],
            scope=scope,
            description=(function.__doc__ or "").strip().partition("\n")[0],
            run=function,
            result=None if result is resource.entity else result,
            policies=policies,
        )

    return declare


def actions_of(*modules: ModuleType) -> tuple[Action[Any, Any], ...]:
    """Return the actions that are declared in modules, in the order of their declaration."""
    return tuple(
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Action) and value.run.__module__ == module.__name__
    )
