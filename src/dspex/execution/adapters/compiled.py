"""What an adapter works out once for each signature."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dspex.language.signatures import Signature

T = TypeVar("T")
_LIMIT = 1024


class PerSignature(Generic[T]):
    """Remembers what `compile_` made of a signature; safe to share between threads.

    Goes by identity: signatures that compare equal may hold different Python classes, whose schemas read differently.
    """

    __slots__ = ("_compile", "_held", "_lock")

    def __init__(self, compile_: Callable[[Signature], T]) -> None:
        self._compile = compile_
        self._held: dict[int, tuple[Signature, T]] = {}
        self._lock = threading.RLock()

    def __call__(self, signature: Signature) -> T:
        """Return what was made of `signature`, or make it now."""
        held = self._held.get(id(signature))
        if held is not None and held[0] is signature:
            return held[1]
        with self._lock:  # taken at first calls only
            held = self._held.get(id(signature))
            if held is not None and held[0] is signature:
                return held[1]
            made = self._compile(signature)
            if len(self._held) >= _LIMIT:  # a program holds few signatures; a search makes thousands, each used briefly
                self._held.clear()
            self._held[id(signature)] = (signature, made)
        return made
