"""For whom something is: rules with names, which resources and actions declare."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex.errors import ForbiddenError
from dspex.operations.resources.access import DEFAULT_WORKSPACE, Actor


def _anybody(_actor: Actor) -> bool:
    return True


def _any_row(_actor: Actor) -> Mapping[str, Any]:
    return {}


def _any_change(_actor: Actor, _row: Any) -> bool:  # noqa: ANN401  # a row of any resource
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One rule. Its name completes "this is for ...": "admins of the workspace 'default'", "who opened the ticket".

    `admits` judges the actor. `rows` gives what a row has to equal for this actor (a tuple: one of its members): of a
    resource, only such rows are read, in pages and counts too; of an action, only such rows are added or changed.
    `changes` judges the actor and a row as it is before its change (a new row: as it is added), for actions only.
    """

    name: str
    admits: Callable[[Actor], bool] = _anybody
    rows: Callable[[Actor], Mapping[str, Any]] = _any_row
    changes: Callable[[Actor, Any], bool] = _any_change

    def require(self, actor: Actor, operation: str) -> None:
        """Return where this actor is admitted.

        Raises:
            ForbiddenError: it is not.
        """
        if not self.admits(actor):
            raise ForbiddenError(f"{operation} is for {self.name}", policy=self.name)

    def require_row(self, actor: Actor, operation: str, row: object) -> None:
        """Return where this actor may add or change `row`.

        Raises:
            ForbiddenError: it may not.
        """
        for name, expected in self.rows(actor).items():
            value = getattr(row, name, expected)
            if value not in expected if isinstance(expected, tuple) else value != expected:
                raise ForbiddenError(f"{operation} is for {self.name}", policy=self.name)
        if not self.changes(actor, row):
            raise ForbiddenError(f"{operation} is for {self.name}", policy=self.name)


OWN_WORKSPACE = Policy(name="rows of the own workspace", rows=lambda actor: {"workspace": actor.workspace})
OPERATORS = Policy(
    name=f"admins of the workspace {DEFAULT_WORKSPACE!r}",
    admits=lambda actor: actor.workspace == DEFAULT_WORKSPACE and actor.may("admin"),
)
