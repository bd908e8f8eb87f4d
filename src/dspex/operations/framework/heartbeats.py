"""Whether other processes live: how long each has shown no heartbeat to this one."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from dspex.clock import Clock

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Observation:
    beats: int
    silence: float = 0.0


class HeartbeatWatch(Generic[K]):
    """Measures silence by the local clock alone, so no two clocks are compared.

    At most `longest_look` seconds count between two looks: the time in which this process stood
    still, or could not reach the database, is nobody's silence.
    """

    def __init__(self, clock: Clock, *, longest_look: float) -> None:
        """Take the clock; nobody has been observed yet."""
        self._clock = clock
        self._longest_look = longest_look
        self._observations: dict[K, _Observation] = {}
        self._last_look: int | None = None

    def look(self, beats: Mapping[K, int]) -> Mapping[K, float]:
        """Return for how many seconds each process has not beaten; all others are forgotten.

        Args:
            beats: the count of heartbeats of each process as it is now.
        """
        now = self._clock.monotonic_ns()
        passed = 0.0 if self._last_look is None else (now - self._last_look) / 1e9
        self._last_look = now
        passed = min(passed, self._longest_look)
        self._observations = {
            key: self._observe(key, count, passed) for key, count in beats.items()
        }
        return {key: observation.silence for key, observation in self._observations.items()}

    def _observe(self, key: K, count: int, passed: float) -> _Observation:
        before = self._observations.get(key)
        if before is None or before.beats != count:
            return _Observation(count)
        return _Observation(count, before.silence + passed)
