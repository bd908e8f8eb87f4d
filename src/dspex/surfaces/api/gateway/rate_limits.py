"""How often and how many at once."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from dspex.clock import Clock

REMEMBERED: Final = 4096
GUESSES_PER_MINUTE: Final = 30


class RateLimited(Exception):  # noqa: N818  # it is an answer, not a fault
    """Too many; the message says of what, and `after_s` when it is worth another try."""

    code = "too_many_requests"

    def __init__(self, message: str, *, after_s: float) -> None:
        super().__init__(message)
        self.message = message
        self.after_s = after_s

    @property
    def whole_seconds(self) -> int:
        """The seconds to wait, as HTTP tells them."""
        return max(1, round(self.after_s + 0.5))


class _Bucket:
    """Tokens that come back evenly; see `_burst` for how many there are at most."""

    __slots__ = ("left", "moment_ns", "running")

    def __init__(self, left: float, moment_ns: int) -> None:
        self.left = left
        self.moment_ns = moment_ns
        self.running = 0


class RateLimiter:
    """Counts what each caller does, in this process. What was not seen for long is forgotten."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nobody seen."""
        self._clock = clock
        self._buckets: OrderedDict[UUID | str, _Bucket] = OrderedDict()

    def take(self, who: UUID | str, *, per_minute: int) -> None:
        """Count one request.

        Raises:
            RateLimited: there were too many in the last minute.
        """
        bucket = self._bucket(who, per_minute)
        if bucket.left < 1:
            burst = _burst(per_minute)
            most = "" if burst == per_minute else f", or {burst:g} at a time"
            raise RateLimited(
                f"more than {per_minute} requests a minute{most}",
                after_s=(1 - bucket.left) * 60 / per_minute,
            )
        bucket.left -= 1

    def guess(self, peer: str) -> None:
        """Count one wrong key.

        Raises:
            RateLimited: there were too many from this address in the last minute.
        """
        bucket = self._bucket(f"guess {peer}", GUESSES_PER_MINUTE)
        if bucket.left < 1:
            raise RateLimited("too many requests with a wrong key", after_s=60 / GUESSES_PER_MINUTE)
        bucket.left -= 1

    @contextmanager
    def running(self, who: UUID | str, *, at_once: int) -> Iterator[None]:
        """Count one request as running while the block lasts.

        Raises:
            RateLimited: as many as allowed run already.
        """
        bucket = self._buckets[who]
        if bucket.running >= at_once:
            raise RateLimited(f"more than {at_once} requests at once", after_s=1.0)
        bucket.running += 1
        try:
            yield
        finally:
            bucket.running -= 1

    def _bucket(self, who: UUID | str, per_minute: int) -> _Bucket:
        now = self._clock.monotonic_ns()
        most = _burst(per_minute)
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = _Bucket(most, now)
            self._forget()
        bucket.left = min(most, bucket.left + (now - bucket.moment_ns) * per_minute / 60e9)
        bucket.moment_ns = now
        return bucket

    def _forget(self) -> None:
        while len(self._buckets) > REMEMBERED:
            who, oldest = self._buckets.popitem(last=False)
            if oldest.running:
                self._buckets[who] = oldest


def _burst(per_minute: int) -> float:
    """Return how many calls may come at once: a sixth of a minute's, or ten where it has so many."""
    return min(float(per_minute), max(10.0, per_minute / 6))
