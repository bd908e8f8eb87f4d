"""The five stages of an execution and their times."""

from typing import Any, Literal

from dspex.clock import Clock

Stage = Literal[
    "definition", "input_validation", "backend_execution", "output_validation", "serialization"
]
STAGES: tuple[Stage, ...] = (
    "definition",
    "input_validation",
    "backend_execution",
    "output_validation",
    "serialization",
)


class Stages:
    """Tracks the stages of an execution.

    It knows which passed, how long each took, and where the execution ended early.
    """

    __slots__ = ("_clock", "_current", "_elapsed_ns", "_entered_ns", "_start_ns")

    def __init__(self, clock: Clock) -> None:
        """Start with the stage definition."""
        self._clock = clock
        self._elapsed_ns: dict[str, int] = {}
        self._current: Stage | None = "definition"
        self._entered_ns = self._start_ns = clock.monotonic_ns()

    def enter(self, stage: Stage | None) -> None:
        """Enter a stage (also again), or None: the time until the next stage counts as waiting."""
        now = self._clock.monotonic_ns()
        if self._current is not None:
            self._elapsed_ns[self._current] = (
                self._elapsed_ns.get(self._current, 0) + now - self._entered_ns
            )
        self._current, self._entered_ns = stage, now

    def summary(
        self, end: Literal["passed", "failed", "cancelled", "waiting"] = "passed"
    ) -> list[dict[str, Any]]:
        """Return all five stages and leave the current one, whose status becomes `end`."""
        last = self._current
        self.enter(None)
        rows: list[dict[str, Any]] = []
        for stage in STAGES:
            elapsed = self._elapsed_ns.get(stage)
            status = "skipped" if elapsed is None else "passed"
            if stage == last and end != "passed":
                status = end
            rows.append(
                {"stage": stage, "status": status, "ms": None if elapsed is None else elapsed / 1e6}
            )
        return rows

    def waited_ms(self) -> float:
        """Return the time since the call outside of any stage.

        It was spent waiting for a slot or the database.
        """
        now = self._clock.monotonic_ns()
        current = now - self._entered_ns if self._current is not None else 0
        return (now - self._start_ns - sum(self._elapsed_ns.values()) - current) / 1e6
