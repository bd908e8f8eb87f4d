"""A limit on how long each of thousands of calls may take, with one timer for all of them."""

import asyncio


class Overtime:
    """Cancels tasks whose call takes longer than so many seconds; owned by one event loop.

    The limits are alike, so calls fall due in the order in which they began, and a dict of floats is all there is to
    keep. A timer for each call would be six objects that the garbage collector has to look at as long as it lasts.
    """

    __slots__ = ("_due", "_late", "_loop", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        """Take the limit; the running loop is the one."""
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._due: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> "asyncio.Task[object] | None":
        """Watch the current task until `end`; None where it is watched already, under the earlier limit."""
        task = asyncio.current_task(self._loop)
        if task is None or task in self._due:
            return None
        self._due[task] = due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._sweep)
        return task

    def is_over(self, task: "asyncio.Task[object] | None") -> bool:
        """Whether the error that reached `task` says only that it is late; its cancellation is then taken back."""
        return task is not None and task in self._late and task.uncancel() == 0

    def end(self, task: "asyncio.Task[object] | None") -> None:
        """Watch `task` no longer."""
        if task is not None:
            self._due.pop(task, None)
            self._late.discard(task)

    def close(self) -> None:
        """Watch nothing any more."""
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
