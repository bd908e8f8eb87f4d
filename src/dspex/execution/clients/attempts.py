"""One number of attempts for a call of a model, shared by all layers that ask again."""

from contextvars import ContextVar, Token


class Attempts:
    """How many more attempts the call in progress may make, in all its wrappers together."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        """Take the number of attempts after the first one."""
        self.left = left

    def take(self) -> bool:
        """Count one more attempt; return False if none is left."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True


_current_attempts: ContextVar[Attempts | None] = ContextVar("dspex_attempts", default=None)


def current_attempts() -> Attempts | None:
    """Return the attempts of the layer that began the call, None outside of one."""
    return _current_attempts.get()


def share_attempts(attempts: Attempts) -> Token[Attempts | None]:
    """Make the layers inside this call share `attempts`; pass the token to `end_attempts`."""
    return _current_attempts.set(attempts)


def end_attempts(token: Token[Attempts | None]) -> None:
    """End what `share_attempts` began."""
    _current_attempts.reset(token)
