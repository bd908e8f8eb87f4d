"""Model calls of jobs."""

import asyncio

from dspex.errors import ModelError
from dspex.execution.clients import LanguageModel, Request, Response
from dspex.execution.clients.identity import identify
from dspex.operations.jobs import JobRun


class JobModel:
    """Wraps a model: its calls end with the run, and some of its failures end the run.

    A call that fails in a way that may pass ends the run, for now. So a model that is away for an
    hour delays a job instead of being written down as a thousand failed rows. Any other error is a
    result like an answer.
    """

    def __init__(self, model: LanguageModel, run: JobRun) -> None:
        """Take the model, which tries again by itself what is worth it, and the run."""
        self.model = model
        self.name = model.name
        self.identity = identify(model)
        # listeners get each reply at once, not in chunks
        self.capabilities = model.capabilities - {"streaming"}
        self._run = run

    async def complete(self, request: Request) -> Response:
        """Return the answer."""
        task = asyncio.current_task()
        if task is None:
            return await self.model.complete(request)
        with self._run.cancellation.watching(task):
            try:
                return await self.model.complete(request)
            except ModelError as error:
                if error.is_retryable:
                    self._run.give_up(error)
                    raise asyncio.CancelledError from error
                raise

    async def aclose(self) -> None:
        """Free what the wrapped model holds."""
        await self.model.aclose()
