"""Who asks, and what they may do."""

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

    Only who works on the machine itself `names_code`: what an API's caller names is never imported.
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
        """Return where this actor has `scope`.

        Raises:
            ForbiddenError: it has not; the message names the scope and what it was needed for.
        """
        if not self.may(scope):
            scopes = ", ".join(sorted(self.scopes)) or "none"
            raise ForbiddenError(f"{operation} needs the scope {scope!r}; this key has: {scopes}", scope=scope)


LOCAL = Actor(name="local", names_code=True)
GUEST = Actor(name="local")
"""The caller of an API that asks for no keys."""
