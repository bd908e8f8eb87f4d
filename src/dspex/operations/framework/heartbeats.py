"""How long other processes have sent no heartbeat, as far as this one can tell."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from dspex.clock import Clock

K = TypeVar("K", bound=Hashable)


class LookTimer:
    """Measures the seconds between looks, at most `longest` of them each time.

    So a time in which this process stood still, or could not reach the database, does not count.
    """

    def __init__(self, clock: Clock, *, longest: float) -> None:
        """Take the clock; the first look is yet to come."""
        self._clock = clock
        self._longest = longest
        self._last_look: int | None = None

    def passed(self) -> float:
        """Return the seconds since the last call, 0 at the first."""
        now = self._clock.monotonic_ns()
        before = now if self._last_look is None else self._last_look
        self._last_look = now
        return min((now - before) / 1e9, self._longest)


@dataclass(frozen=True, slots=True)
class _Observation:
    beats: int
    silence: float = 0.0


class HeartbeatWatch(Generic[K]):
    """Measures silence by the local clock alone, so no two clocks are compared; see `LookTimer`."""

    def __init__(self, clock: Clock, *, longest_look: float) -> None:
        """Take the clock, and the maximum of seconds that count between two checks."""
        self._timer = LookTimer(clock, longest=longest_look)
        self._observations: dict[K, _Observation] = {}

    def look(self, beats: Mapping[K, int]) -> Mapping[K, float]:
        """Return the seconds since the last heartbeat of each process; forget all others.

        Args:
            beats: the current count of heartbeats of each process.
        """
        passed = self._timer.passed()
        self._observations = {
            key: self._observe(key, count, passed) for key, count in beats.items()
        }
        return {key: observation.silence for key, observation in self._observations.items()}

    def _observe(self, key: K, count: int, passed: float) -> _Observation:
        before = self._observations.get(key)
        if before is None or before.beats != count:
            return _Observation(count)
        return _Observation(count, before.silence + passed)
