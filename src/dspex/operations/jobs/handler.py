"""The seam between the machinery and the work.

A handler is given one run of a job and says how it ended.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dspex.errors import DspexError
from dspex.execution.context import Cancellation
from dspex.operations.framework.store import Change
from dspex.operations.jobs.job import JobRecord

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a job has come to: `values` of its row, and what gives other changes.

    The other changes are made in the same transaction. `changes` gives further values and changes;
    it is asked again where they were refused because somebody else had changed the same rows
    meanwhile.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    changes: Callable[[], Awaitable[tuple[Mapping[str, Any], Sequence[Change]]]] | None = None
    message: str = "completed"


class JobRun:
    """One life of a job in this process. Owned by one event loop, but for `cancellation`.

    `job` is the row as it was taken; its `turn` is this run's, and names it wherever something is
    written.
    """

    def __init__(self, job: JobRecord, wake: Callable[[], None]) -> None:
        """Take the row; `wake` is called when there is something to write."""
        self.job = job
        self.cancellation = Cancellation()
        self.failure: DspexError | None = None
        self.has_progress = False
        self.is_stopped = False
        self.progress: dict[str, Any] = dict(job.progress)
        self.messages: list[str] = []
        self.task: asyncio.Task[Done] | None = None
        self._wake = wake

    def report(self, message: str, **progress: Any) -> None:
        """Report to observers.

        `progress` replaces earlier values of these names, `message` is for people.
        """
        self.progress = {**self.progress, **progress}
        self.messages.append(message)
        self._wake()

    def give_up(self, error: DspexError) -> None:
        """End this life of the job with `error`.

        Where the error may pass, the job is tried again later.
        """
        self.failure = self.failure or error
        self.stop()

    def stop(self) -> None:
        """End what is under way: calls first, then the handler itself."""
        self.is_stopped = True
        self.cancellation.cancel()
        if self.task is not None:
            self.task.cancel()


class Handler(Protocol):
    """Does the work of one kind of job.

    It is started again from the beginning when its worker has died. Whatever must not happen twice
    has to be recorded in a separate journal. An error whose `is_retryable` is set, or a
    `StorageError`, is tried again; any other ends the job. It is cancelled when the job was
    cancelled, paused or taken over, and then leaves within a second.
    """

    async def __call__(self, run: JobRun, /) -> Done:
        """Do the work and return what it has come to."""
        ...
