"""The tasks that an object starts besides its calls, and cancels when it ends."""

import asyncio
from collections.abc import Coroutine


class BackgroundTasks:
    """Tasks of one event loop; each is held until it ends, so that none is lost on the way."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        """Start without tasks."""
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def cancel(self) -> None:
        """Cancel all tasks except the current one, and wait for their ends."""
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
