"""The five stages of an execution, as the audit of it tells them."""

from typing import Any, Literal

from dspex.clock import Clock

Stage = Literal["definition", "input_validation", "backend_execution", "output_validation", "serialization"]
STAGES: tuple[Stage, ...] = (
    "definition",
    "input_validation",
    "backend_execution",
    "output_validation",
    "serialization",
)


class Stages:
    """Which stages were passed, how long each took, and in which one an execution ended early."""

    __slots__ = ("_began", "_clock", "_now", "_since", "_spent")

    def __init__(self, clock: Clock) -> None:
        """Begin with the definition."""
        self._clock = clock
        self._spent: dict[str, int] = {}
        self._now: Stage | None = "definition"
        self._since = self._began = clock.monotonic_ns()

    def enter(self, stage: Stage | None) -> None:
        """Go on to a stage (again), or to none: the time until the next one is waiting."""
        now = self._clock.monotonic_ns()
        if self._now is not None:
            self._spent[self._now] = self._spent.get(self._now, 0) + now - self._since
        self._now, self._since = stage, now

    def told(self, end: Literal["passed", "failed", "cancelled"] = "passed") -> list[dict[str, Any]]:
        """Return all five; the one under way, or else the next one, ended as `end` says, and none follows it."""
        last = self._now
        self.enter(None)
        rows: list[dict[str, Any]] = []
        for stage in STAGES:
            spent = self._spent.get(stage)
            status = "skipped" if spent is None else "passed"
            if stage == last and end != "passed":
                status = end
            rows.append({"stage": stage, "status": status, "ms": None if spent is None else spent / 1e6})
        return rows

    def waited_ms(self) -> float:
        """Return how long, since the call, no stage was under way: it waited for a place or for the database."""
        now = self._clock.monotonic_ns()
        current = now - self._since if self._now is not None else 0
        return (now - self._began - sum(self._spent.values()) - current) / 1e6
