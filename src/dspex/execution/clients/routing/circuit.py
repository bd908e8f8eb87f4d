"""A circuit: whether an endpoint is asked, from the results of its last calls. Pure values."""

from typing import Self

import msgspec

from dspex.errors import DefinitionError


class CircuitLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When a circuit opens, and how often it is probed then.

    It opens after `consecutive` failures in a row, or if of at least `minimum` calls in the last
    `window` seconds the share `ratio` failed. Then one call in `interval` seconds is let through,
    and the first success closes it.
    """

    window: float = 30.0
    ratio: float = 0.5
    minimum: int = 10
    consecutive: int = 5
    interval: float = 5.0

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            DefinitionError: a limit is not above 0, or the ratio is above 1.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value < 1e9):
                raise DefinitionError(f"`{name}` of a circuit is a number above 0, not {value!r}")
        if self.ratio > 1:
            raise DefinitionError(f"`ratio` of a circuit is at most 1, not {self.ratio!r}")


class Circuit(msgspec.Struct, frozen=True, gc=False):
    """The results of the calls of one endpoint. Every method returns a new circuit.

    `now` and `asked_at` (when the call began) are seconds of one clock. Calls are counted in two
    halves of a window. While the circuit is open, `opened_at` is set, and nothing is asked before
    `probe_at`.
    """

    failures_in_row: int = 0
    half_start: float = 0.0
    calls: int = 0
    failures: int = 0
    earlier_calls: int = 0
    earlier_failures: int = 0
    opened_at: float | None = None
    probe_at: float = 0.0
    reason: str = ""

    def admits(self, now: float) -> bool:
        """Return whether a call may be sent now; if the circuit is open, it is a probe."""
        return self.opened_at is None or now >= self.probe_at

    def after_probe(self, limits: CircuitLimits, now: float) -> Self:
        """Return the open circuit after a probe was sent: the next one is an interval later."""
        return msgspec.structs.replace(self, probe_at=now + limits.interval)

    def after_success(self, limits: CircuitLimits, now: float, asked_at: float) -> Self:
        """Return the circuit after an answer; it closes unless the call began before it opened."""
        if self.opened_at is None:
            return self._count(limits, now, failures=0)
        return self if asked_at < self.opened_at else type(self)(half_start=now, calls=1)

    def after_failure(self, limits: CircuitLimits, now: float, reason: str) -> Self:
        """Return the circuit after a failure."""
        if self.opened_at is not None:
            probe_at = self.probe_at if now < self.probe_at else now + limits.interval
            return msgspec.structs.replace(self, reason=reason, probe_at=probe_at)
        circuit = self._count(limits, now, failures=1)
        calls = circuit.calls + circuit.earlier_calls
        failures = circuit.failures + circuit.earlier_failures
        if circuit.failures_in_row >= limits.consecutive:
            reason = f"{circuit.failures_in_row} failures in a row, the last: {reason}"
        elif calls >= limits.minimum and failures >= limits.ratio * calls:
            reason = f"{failures} of {calls} calls failed, the last: {reason}"
        else:
            return circuit
        return circuit.open_until(now, now + limits.interval, reason)

    def after_rate_limit(
        self, limits: CircuitLimits, now: float, retry_after: float | None
    ) -> Self:
        """Return the circuit after a rate limit: nothing is asked for `retry_after` seconds.

        Without that number they double from one second up to the interval of the limits.
        """
        circuit = self._count(limits, now, failures=1) if self.opened_at is None else self
        doubling = 2.0 ** min(circuit.failures_in_row - 1, 30)
        seconds = min(limits.interval, doubling) if retry_after is None else retry_after
        if circuit.opened_at is not None:
            return msgspec.structs.replace(circuit, probe_at=max(circuit.probe_at, now + seconds))
        return circuit.open_until(now, now + seconds, "rate limit")

    def open_until(self, now: float, probe_at: float, reason: str) -> Self:
        """Return the circuit, open; see the class."""
        return msgspec.structs.replace(self, opened_at=now, probe_at=probe_at, reason=reason)

    def _count(self, limits: CircuitLimits, now: float, failures: int) -> Self:
        in_row = self.failures_in_row + 1 if failures else 0
        half, age = limits.window / 2, now - self.half_start
        if age < half:
            return type(self)(
                in_row,
                self.half_start,
                self.calls + 1,
                self.failures + failures,
                self.earlier_calls,
                self.earlier_failures,
            )
        earlier = (self.calls, self.failures) if age < 2 * half else (0, 0)
        return type(self)(in_row, now, 1, failures, *earlier)
