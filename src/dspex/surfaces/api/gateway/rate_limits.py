"""Limits on how often a key is used, and for how many requests at once."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from dspex.clock import Clock
from dspex.error_text import quantity

MAX_BUCKETS: Final = 4096
WRONG_KEYS_PER_MINUTE: Final = 30


class RateLimited(Exception):  # noqa: N818  # a response, not a fault
    """Too many requests; the message names the limit, `retry_after_s` is the time to wait."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def whole_seconds(self) -> int:
        """The seconds to wait, as the header Retry-After gives them."""
        return max(1, round(self.retry_after_s + 0.5))


class _Bucket:
    """A token bucket that refills evenly, up to `_burst` tokens."""

    __slots__ = ("running", "tokens", "updated_ns")

    def __init__(self, tokens: float, updated_ns: int) -> None:
        self.tokens = tokens
        self.updated_ns = updated_ns
        self.running = 0


class RateLimiter:
    """Counts the requests of each key in this process; the oldest buckets are dropped."""

    def __init__(self, clock: Clock) -> None:
        """Start without any bucket."""
        self._clock = clock
        self._buckets: OrderedDict[UUID | str, _Bucket] = OrderedDict()

    def take(self, key: UUID | str, *, per_minute: int) -> None:
        """Count one request.

        Raises:
            RateLimited: there were too many in the last minute.
        """
        bucket = self._bucket(key, per_minute)
        if bucket.tokens < 1:
            burst = _burst(per_minute)
            burst_text = "" if burst == per_minute else f", or {burst:g} at a time"
            raise RateLimited(
                f"more than {quantity(per_minute, 'request')} a minute{burst_text}",
                retry_after_s=(1 - bucket.tokens) * 60 / per_minute,
            )
        bucket.tokens -= 1

    def count_wrong_key(self, peer: str) -> None:
        """Count one request with a wrong key.

        Raises:
            RateLimited: there were too many from this address in the last minute.
        """
        bucket = self._bucket(f"wrong key {peer}", WRONG_KEYS_PER_MINUTE)
        if bucket.tokens < 1:
            raise RateLimited(
                "too many requests with a wrong key", retry_after_s=60 / WRONG_KEYS_PER_MINUTE
            )
        bucket.tokens -= 1

    @contextmanager
    def running(self, key: UUID | str, *, at_once: int) -> Iterator[None]:
        """Count one request as running while the block lasts.

        Raises:
            RateLimited: as many as allowed are already running.
        """
        bucket = self._buckets[key]
        if bucket.running >= at_once:
            raise RateLimited(
                f"more than {quantity(at_once, 'request')} at once", retry_after_s=1.0
            )
        bucket.running += 1
        try:
            yield
        finally:
            bucket.running -= 1

    def _bucket(self, key: UUID | str, per_minute: int) -> _Bucket:
        now = self._clock.monotonic_ns()
        burst = _burst(per_minute)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(burst, now)
            self._drop_oldest()
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.updated_ns) * per_minute / 60e9)
        bucket.updated_ns = now
        return bucket

    def _drop_oldest(self) -> None:
        while len(self._buckets) > MAX_BUCKETS:
            key, oldest = self._buckets.popitem(last=False)
            if oldest.running:
                self._buckets[key] = oldest


def _burst(per_minute: int) -> float:
    """Return how many requests may come at once: a sixth of the limit, but at least ten."""
    return min(float(per_minute), max(10.0, per_minute / 6))
