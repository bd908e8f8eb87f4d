"""A circuit breaker: after failures in a row no call is let through, then a few probes, then all."""

from dataclasses import dataclass
from typing import Literal

from dspex.clock import Clock
from dspex.errors import CircuitOpenError

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """Opens after `failures` in a row, for `seconds`; then `probes` successes close it again."""

    failures: int = 5
    seconds: float = 60.0
    probes: int = 3


class CircuitBreaker:
    """Counts incidents, not calls: a crash that fails ten calls is one failure. Owned by one event loop."""

    __slots__ = ("_clock", "_config", "_failures", "_opened", "_probing", "_successes", "state")

    def __init__(self, config: BreakerConfig, clock: Clock) -> None:
        """Begin closed."""
        self.state: BreakerState = "closed"
        self._config = config
        self._clock = clock
        self._failures = 0
        self._successes = 0
        self._probing = 0
        self._opened = 0.0

    def admit(self) -> bool:
        """Let a call through; returns whether it is a probe, which `done` has to be told of.

        Raises:
            CircuitOpenError: the circuit is open, or half open with all its probes out.
        """
        if self.state == "closed":
            return False
        left = self._opened + self._config.seconds - self._now()
        if self.state == "open" and left <= 0:
            self.state, self._successes, self._probing = "half_open", 0, 0
        if self.state == "open" or self._probing + self._successes >= self._config.probes:
            raise CircuitOpenError(
                f"the workers failed {self._config.failures} times in a row; the next calls are let through in "
                f"{max(left, 0):.1f} s",
                retry_after=max(left, 0.0),
            )
        self._probing += 1
        return True

    def done(self, *, is_probe: bool) -> None:
        """Take note that an admitted call is over, however it ended."""
        if is_probe and self._probing:
            self._probing -= 1

    def succeeded(self) -> None:
        """Take note of an answer."""
        self._failures = 0
        if self.state == "half_open":
            self._successes += 1
            if self._successes >= self._config.probes:
                self.state = "closed"

    def failed(self) -> None:
        """Take note of an incident."""
        self._failures += 1
        if self.state == "half_open" or (self.state == "closed" and self._failures >= self._config.failures):
            self.state, self._opened, self._failures = "open", self._now(), 0

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9
