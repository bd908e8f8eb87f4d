"""The five stages of an execution and their times."""

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
    """Tracks the stages of an execution: which passed, how long each took, and where it ended early."""

    __slots__ = ("_began", "_clock", "_now", "_since", "_spent")

    def __init__(self, clock: Clock) -> None:
        """Start with the stage definition."""
        self._clock = clock
        self._spent: dict[str, int] = {}
        self._now: Stage | None = "definition"
        self._since = self._began = clock.monotonic_ns()

    def enter(self, stage: Stage | None) -> None:
        """Enter a stage (also again), or None: the time until the next stage counts as waiting."""
        now = self._clock.monotonic_ns()
        if self._now is not None:
            self._spent[self._now] = self._spent.get(self._now, 0) + now - self._since
        self._now, self._since = stage, now

    def told(self, end: Literal["passed", "failed", "cancelled"] = "passed") -> list[dict[str, Any]]:
        """Return all five stages and leave the current one, whose status becomes `end`."""
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
        """Return the time since the call outside of any stage: waiting for a slot or the database."""
        now = self._clock.monotonic_ns()
        current = now - self._since if self._now is not None else 0
        return (now - self._began - sum(self._spent.values()) - current) / 1e6
