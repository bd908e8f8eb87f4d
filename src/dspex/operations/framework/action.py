"""The declaration of an action; every surface is derived from the table of these."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dspex.operations.framework.access import Scope
from dspex.operations.framework.policies import OWN_WORKSPACE, AccessPolicy
from dspex.operations.framework.resource import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
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
    run: Callable[[Any, Any], Awaitable[Any]]
    result: type | None = None
    policies: tuple[AccessPolicy, ...] = (OWN_WORKSPACE,)

    @property
    def terms(self) -> str:
        """Who may perform this action, in one sentence."""
        names = [policy.name for policy in self.policies if policy is not OWN_WORKSPACE]
        return f"Needs the scope {self.scope}{''.join(f'; for {name}' for name in names)}."
