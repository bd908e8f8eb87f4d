"""Cache what an adapter computes once per signature."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dspex.language.signatures import Signature

T = TypeVar("T")
_LIMIT = 1024


class SignatureCache(Generic[T]):
    """Caches the result of `compile_` per signature; safe to share between threads.

    Keys are object identities: equal signatures may hold different Python classes with different
    schemas.
    """

    __slots__ = ("_compile", "_entries", "_lock")

    def __init__(self, compile_: Callable[[Signature], T]) -> None:
        self._compile = compile_
        self._entries: dict[int, tuple[Signature, T]] = {}
        self._lock = threading.RLock()

    def __call__(self, signature: Signature) -> T:
        """Return the result for `signature`, computing it at the first call."""
        entry = self._entries.get(id(signature))
        if entry is not None and entry[0] is signature:
            return entry[1]
        with self._lock:  # only first calls get here
            entry = self._entries.get(id(signature))
            if entry is not None and entry[0] is signature:
                return entry[1]
            value = self._compile(signature)
            # a program has few signatures; an optimizer creates thousands, each used briefly
            if len(self._entries) >= _LIMIT:
                self._entries.clear()
            self._entries[id(signature)] = (signature, value)
        return value
