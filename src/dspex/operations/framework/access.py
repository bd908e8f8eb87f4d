"""Actors and their scopes."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from dspex.errors import ForbiddenError

Scope = Literal["read", "execute", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "execute", "write", "admin")
DEFAULT_WORKSPACE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody who acts in one workspace. `admin` includes every other scope.

    `names_code` is true only for users of the machine itself: code named by an API caller is never
    imported.
    """

    name: str
    workspace: str = DEFAULT_WORKSPACE
    scopes: frozenset[Scope] = frozenset(SCOPES)
    key_id: UUID | None = None
    names_code: bool = False

    def may(self, scope: Scope) -> bool:
        """Return whether this actor has `scope`."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: Scope, operation: str) -> None:
        """Raise unless the actor has `scope`.

        Raises:
            ForbiddenError: the message names the missing scope and the operation that needs it.
        """
        if not self.may(scope):
            scopes = ", ".join(sorted(self.scopes)) or "none"
            raise ForbiddenError(
                f"{operation} needs the scope {scope!r}; this key has: {scopes}", scope=scope
            )


LOCAL = Actor(name="local", names_code=True)
GUEST = Actor(name="local")
"""The caller of an API that does not require keys."""
