"""The interface of handlers: each does the work of one kind of job."""

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
    """The result of a job: `values` of its row, and changes of other rows in one transaction.

    `changes` returns further values and the changes. It is called again if they were rejected
    because another process had changed the same rows.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    changes: Callable[[], Awaitable[tuple[Mapping[str, Any], Sequence[Change]]]] | None = None
    message: str = "completed"


class JobRun:
    """One run of a job in this process. Owned by one event loop, except `cancellation`.

    `job` is the row at the start; every write of this run names its `turn`.
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
        """Report `message` to people, and replace these values of the progress."""
        self.progress = {**self.progress, **progress}
        self.messages.append(message)
        self._wake()

    def give_up(self, error: DspexError) -> None:
        """End this run with `error`; if a retry may help, the job is tried again later."""
        self.failure = self.failure or error
        self.stop()

    def stop(self) -> None:
        """Cancel the calls of the run, then the handler itself."""
        self.is_stopped = True
        self.cancellation.cancel()
        if self.task is not None:
            self.task.cancel()


class Handler(Protocol):
    """Does the work of one kind of job.

    If its worker dies, it starts again from the beginning: it records in a journal what must not
    happen twice. After an error with `is_retryable`, or a `StorageError`, it is tried again; any
    other error ends the job. It is cancelled when the job is cancelled, paused or taken over, and
    then has to end within a second.
    """

    async def __call__(self, run: JobRun, /) -> Done:
        """Do the work and return the result."""
        ...
