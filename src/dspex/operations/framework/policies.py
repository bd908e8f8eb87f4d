"""Named access rules, declared by resources and actions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex.errors import ForbiddenError
from dspex.operations.framework.access import DEFAULT_WORKSPACE, Actor


def _anybody(_actor: Actor) -> bool:
    return True


def _any_row(_actor: Actor) -> Mapping[str, Any]:
    return {}


def _any_change(_actor: Actor, _row: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """One rule. Its name completes "this is for ...": "admins of the workspace 'default'".

    `admits` checks the actor. `rows` returns the values that a row must have for this actor (a
    tuple:
    one of its members): reads, pages and counts of a resource include only such rows, and an action
    may add or change only such rows. `changes` checks the actor and the row before its change (for
    a new
    row: the row to add); it applies to actions only.
    """

    name: str
    admits: Callable[[Actor], bool] = _anybody
    rows: Callable[[Actor], Mapping[str, Any]] = _any_row
    changes: Callable[[Actor, Any], bool] = _any_change

    def require(self, actor: Actor, operation: str) -> None:
        """Raise unless this actor is admitted.

        Raises:
            ForbiddenError: the actor is not admitted.
        """
        if not self.admits(actor):
            raise ForbiddenError(f"{operation} is for {self.name}", policy=self.name)

    def require_row(self, actor: Actor, operation: str, row: object) -> None:
        """Raise unless this actor may add or change `row`.

        Raises:
            ForbiddenError: the actor may not.
        """
        for name, expected in self.rows(actor).items():
            value = getattr(row, name, expected)
            if value not in expected if isinstance(expected, tuple) else value != expected:
                raise ForbiddenError(f"{operation} is for {self.name}", policy=self.name)
        if not self.changes(actor, row):
            raise ForbiddenError(f"{operation} is for {self.name}", policy=self.name)


OWN_WORKSPACE = AccessPolicy(
    name="rows of the own workspace", rows=lambda actor: {"workspace": actor.workspace}
)
OPERATORS = AccessPolicy(
    name=f"admins of the workspace {DEFAULT_WORKSPACE!r}",
    admits=lambda actor: actor.workspace == DEFAULT_WORKSPACE and actor.may("admin"),
)
