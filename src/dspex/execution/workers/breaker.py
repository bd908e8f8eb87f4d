"""A circuit breaker: rejects calls after failures in a row, then admits probes, then all calls."""

from dataclasses import dataclass
from typing import Literal

from dspex.clock import Clock
from dspex.errors import CircuitOpenError

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """Open after `failures` in a row, for `seconds`; then close again after `probes` successes."""

    failures: int = 5
    seconds: float = 60.0
    probes: int = 3


class CircuitBreaker:
    """Counts incidents, not calls: a crash that fails ten calls is one failure.

    Owned by one event loop.
    """

    __slots__ = (
        "_active_probes",
        "_clock",
        "_config",
        "_failures",
        "_opened_at",
        "_successes",
        "state",
    )

    def __init__(self, config: BreakerConfig, clock: Clock) -> None:
        """Start closed."""
        self.state: BreakerState = "closed"
        self._config = config
        self._clock = clock
        self._failures = 0
        self._successes = 0
        self._active_probes = 0
        self._opened_at = 0.0

    def admit(self) -> bool:
        """Admit a call; returns whether it is a probe, which the caller passes on to `finish`.

        Raises:
            CircuitOpenError: the circuit is open, or half open with all its probes under way.
        """
        if self.state == "closed":
            return False
        wait = self._opened_at + self._config.seconds - self._now()
        if self.state == "open" and wait <= 0:
            self.state, self._successes, self._active_probes = "half_open", 0, 0
        if self.state == "open" or self._active_probes + self._successes >= self._config.probes:
            raise CircuitOpenError(
                f"the workers failed {self._config.failures} times in a row; the next calls are "
                f"admitted in {max(wait, 0):.1f} s",
                retry_after=max(wait, 0.0),
            )
        self._active_probes += 1
        return True

    def finish(self, *, is_probe: bool) -> None:
        """Record the end of an admitted call, whatever its result."""
        if is_probe and self._active_probes:
            self._active_probes -= 1

    def record_success(self) -> None:
        """Record a reply."""
        self._failures = 0
        if self.state == "half_open":
            self._successes += 1
            if self._successes >= self._config.probes:
                self.state = "closed"

    def record_failure(self) -> None:
        """Record an incident."""
        self._failures += 1
        if self.state == "half_open" or (
            self.state == "closed" and self._failures >= self._config.failures
        ):
            self.state, self._opened_at, self._failures = "open", self._now(), 0

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9
