"""Retry failed requests after a random wait."""

import random

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.errors import ModelError
from dspex.execution.clients.attempts import (
    Attempts,
    current_attempts,
    end_attempts,
    share_attempts,
)
from dspex.execution.clients.budgeted import another, lost
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import StreamedReply, Wrapper


@checks_names
class Retrying(Wrapper):
    """Wraps a model; retries retryable errors with exponential backoff and full jitter.

    A `Retry-After` of up to `longest` seconds is respected; if it is longer, the error is raised.
    Inside a `Route` or another `Retrying` it makes one attempt: only the outer layer asks again.
    Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(  # collaborators and limits, all named
        self,
        model: LanguageModel,
        *,
        attempts: int = 4,
        first: float = 0.5,
        longest: float = 30.0,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Make at most `attempts` calls; wait n is uniform between 0 and `first * 2**n` seconds."""
        super().__init__(model)
        self._attempts = attempts
        self._first = first
        self._longest = longest
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, keeps no secret

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request`, or raise the last error; after the first chunk nothing is retried."""
        if current_attempts() is not None:
            return await ask(self.model, request, emit)
        attempts = Attempts(self._attempts - 1)
        token = share_attempts(attempts)
        try:
            return await self._retry(request, emit, attempts)
        finally:
            end_attempts(token)

    async def _retry(self, request: Request, emit: Emit | None, attempts: Attempts) -> Response:
        attempt, stream = 1, None if emit is None else StreamedReply(emit)
        while True:
            start = self._clock.monotonic_ns()
            try:
                response = await ask(self.model, request, stream)
                return response.with_seconds((self._clock.monotonic_ns() - start) / 1e9)
            except ModelError as error:
                wait = (
                    None if stream is not None and stream.has_chunks else self._wait(error, attempt)
                )
                if wait is None or not attempts.take():
                    raise
                lost(error)
            attempt += 1
            await self._clock.sleep(wait)
            await another(request, self.model)

    def _wait(self, error: ModelError, attempt: int) -> float | None:
        """Return the seconds before the next attempt, None to give up."""
        if not error.is_retryable:
            return None
        jitter = self._rng.uniform(0.0, min(self._longest, self._first * 2 ** (attempt - 1)))
        retry_after = error.retry_after
        if retry_after is not None:
            return None if retry_after > self._longest else retry_after + jitter
        return jitter
