"""What an action is: one row of the table from which every surface is derived."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dspex.operations.resources.access import Scope
from dspex.operations.resources.policies import OWN_WORKSPACE, Policy
from dspex.operations.resources.resource import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that can be done: `run` takes `Operations` and an `input`, and gives back a row of `resource`.

    Only actors with `scope` whom all `policies` admit may do it, and it changes only rows that these cover. What `run`
    writes through the operations' store stands in the audit trail.
    Where it gives back something else than a row, `result` is its dataclass: of rows and plain values.
    """

    name: str
    resource: Resource[Any]
    input: type
    scope: Scope
    description: str
    run: Callable[[Any, Any], Awaitable[Any]]
    result: type | None = None
    policies: tuple[Policy, ...] = (OWN_WORKSPACE,)

    @property
    def terms(self) -> str:
        """Who may do this, in one sentence."""
        names = [policy.name for policy in self.policies if policy is not OWN_WORKSPACE]
        return f"Needs the scope {self.scope}{''.join(f'; for {name}' for name in names)}."
