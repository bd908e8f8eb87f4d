"""What the in-process backends share: programs by handle."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from dspex.errors import NotFoundError
from dspex.execution.backends.backend import Handle

T = TypeVar("T")


class Held(Generic[T]):
    """Things by handle, in the order of their creation."""

    __slots__ = ("_things",)

    def __init__(self) -> None:
        self._things: dict[Handle, T] = {}

    def put(self, handle: Handle, thing: T) -> Handle:
        """Keep `thing`, and return its handle."""
        self._things[handle] = thing
        return handle

    def __contains__(self, handle: Handle) -> bool:
        return handle in self._things

    def get(self, handle: Handle) -> T:
        """Return what is behind `handle`.

        Raises:
            NotFoundError: nothing is.
        """
        try:
            return self._things[handle]
        except KeyError:
            raise NotFoundError(f"this backend holds no program {handle!r}; create it first") from None

    def delete(self, handle: Handle) -> None:
        """Forget what is behind `handle`.

        Raises:
            NotFoundError: nothing is.
        """
        self.get(handle)
        del self._things[handle]

    def handles(self) -> Sequence[Handle]:
        """Return all handles."""
        return list(self._things)
