"""The limit and the delay of a supervisor's restarts."""

import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """At most `restarts` within `seconds`; one more, and the supervisor gives up."""

    restarts: int = 5
    seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The first restart is immediate; each further one waits twice as long as the last.

    A child that ran for `healthy` seconds counts as recovered.
    """

    healthy: float = 1.0
    base: float = 0.1
    ceiling: float = 10.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Return the seconds to wait after the n-th failure in a row, with jitter of +-50%."""
        if failures <= 1:
            return 0.0
        planned = min(self.base * 2.0 ** min(failures - 2, 60), self.ceiling)
        return float(planned * rng.uniform(0.5, 1.5))


class FailureWindow:
    """The failures of one supervisor within the last seconds."""

    __slots__ = ("_intensity", "_moments")

    def __init__(self, intensity: Intensity) -> None:
        """Start without failures."""
        self._intensity = intensity
        self._moments: deque[float] = deque()

    def add(self, now: float) -> bool:
        """Add a failure; returns whether the child may be restarted."""
        self._moments.append(now)
        while self._moments[0] <= now - self._intensity.seconds:
            self._moments.popleft()
        return len(self._moments) <= self._intensity.restarts
