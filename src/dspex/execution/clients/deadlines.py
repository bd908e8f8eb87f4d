"""A time limit for each of thousands of calls, with a single timer."""

import asyncio


class CallDeadlines:
    """Cancels tasks whose call takes too long; owned by one event loop.

    All limits are equal, so calls become due in the order in which they began, and a dict of floats
    is enough. A timer for each call would be six more objects for the garbage collector to scan.
    """

    __slots__ = ("_due", "_late", "_loop", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        """Take the limit in seconds; belongs to the running loop."""
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._due: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> "asyncio.Task[object] | None":
        """Watch the current task until `end`; return None if it is already watched."""
        task = asyncio.current_task(self._loop)
        if task is None or task in self._due:
            return None
        self._due[task] = due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._sweep)
        return task

    def is_over(self, task: "asyncio.Task[object] | None") -> bool:
        """Whether `task` was cancelled only for being late; if so, undo the cancellation."""
        return task is not None and task in self._late and task.uncancel() == 0

    def end(self, task: "asyncio.Task[object] | None") -> None:
        """Stop watching `task`."""
        if task is not None:
            self._due.pop(task, None)
            self._late.discard(task)

    def close(self) -> None:
        """Stop watching all tasks."""
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()

    def _sweep(self) -> None:
        now, self._timer = self._loop.time(), None
        while self._due:
            task, due = next(iter(self._due.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._sweep)
                break
            del self._due[task]
            self._late.add(task)
            task.cancel()
