"""The state of a validation that can be cancelled; see `cancellable`."""

from collections.abc import Callable
from typing import Final

_POLL_INTERVAL: Final = 256


class CancellableRun:
    """The state of one cancellable run: its error count, and the hook that can cancel it."""

    __slots__ = ("errors", "raise_if_cancelled", "steps")

    def __init__(self, raise_if_cancelled: Callable[[], None] | None = None) -> None:
        """Call the hook every few hundred items; it raises anything but `ValueError` to cancel."""
        self.errors = 0
        self.steps = 0
        self.raise_if_cancelled = raise_if_cancelled

    def fresh(self) -> "CancellableRun":
        """Return a new state with the same hook."""
        return CancellableRun(self.raise_if_cancelled)

    def step(self) -> None:
        """Count one item."""
        self.steps += 1
        if self.raise_if_cancelled is not None and self.steps % _POLL_INTERVAL == 0:
            self.raise_if_cancelled()
