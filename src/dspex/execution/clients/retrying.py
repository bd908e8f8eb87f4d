"""Try again, later and not all at once."""

import random

from dspex.clock import Clock, SystemClock
from dspex.errors import ModelError
from dspex.execution.clients.budgeted import another, lost
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.wrapper import Told, Wrapper


class Retrying(Wrapper):
    """Wraps a model: retryable errors are tried again after a random wait that doubles in reach (full jitter).

    A `Retry-After` of the provider is waited for, up to `longest` seconds; where it asks for more, the error goes up.
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
        """Make at most `attempts` calls; the n-th wait is uniform between 0 and `first * 2**n` seconds."""
        super().__init__(model)
        self._attempts = attempts
        self._first = first
        self._longest = longest
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, keeps no secret

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request`, or raise the last error; once a piece was told, nothing is tried again."""
        attempt, told = 1, None if emit is None else Told(emit)
        while True:
            began = self._clock.monotonic_ns()
            try:
                response = await ask(self.model, request, told)
                return response.taking((self._clock.monotonic_ns() - began) / 1e9)
            except ModelError as error:
                wait = None if told is not None and told.any else self._wait(error, attempt)
                if wait is None:
                    raise
                lost(error)
            attempt += 1
            await self._clock.sleep(wait)
            await another(request, self.model)

    def _wait(self, error: ModelError, attempt: int) -> float | None:
        """Return how long to wait before the next attempt, None where there is to be none."""
        if not error.is_retryable or attempt == self._attempts:
            return None
        jitter = self._rng.uniform(0.0, min(self._longest, self._first * 2 ** (attempt - 1)))
        asked = error.context.get("retry_after")
        if isinstance(asked, int | float):
            return None if asked > self._longest else asked + jitter
        return jitter
