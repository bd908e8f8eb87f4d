"""Try again, later and not all at once."""

import random

from dspex.clock import Clock, SystemClock
from dspex.errors import ModelError
from dspex.execution.clients.budgeted import another, lost
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask


class Retrying:
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
        self.model = model
        self.name = model.name
        self.capabilities = model.capabilities
        self._attempts = attempts
        self._first = first
        self._longest = longest
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, keeps no secret

    def __repr__(self) -> str:
        return f"Retrying({self.model!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request`, or raise the last error."""
        attempt = 1
        while True:
            began = self._clock.monotonic_ns()
            try:
                response = await self.model.complete(request)
                return response.taking((self._clock.monotonic_ns() - began) / 1e9)
            except ModelError as error:
                wait = self._wait(error, attempt)
                if wait is None:
                    raise
                lost(error)
            attempt += 1
            await self._clock.sleep(wait)
            await another(request, self.model.name)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` piece by piece; once a piece was told, nothing is tried again."""
        attempt, told = 1, _Told(emit)
        while True:
            began = self._clock.monotonic_ns()
            try:
                response = await ask(self.model, request, told)
                return response.taking((self._clock.monotonic_ns() - began) / 1e9)
            except ModelError as error:
                wait = None if told.any else self._wait(error, attempt)
                if wait is None:
                    raise
                lost(error)
            attempt += 1
            await self._clock.sleep(wait)
            await another(request, self.model.name)

    async def aclose(self) -> None:
        """Free what the wrapped model holds."""
        await self.model.aclose()

    def _wait(self, error: ModelError, attempt: int) -> float | None:
        """Return how long to wait before the next attempt, None where there is to be none."""
        if not error.is_retryable or attempt == self._attempts:
            return None
        jitter = self._rng.uniform(0.0, min(self._longest, self._first * 2 ** (attempt - 1)))
        asked = error.context.get("retry_after")
        if isinstance(asked, int | float):
            return None if asked > self._longest else asked + jitter
        return jitter


class _Told:
    """Passes pieces on and knows whether there was one."""

    __slots__ = ("_emit", "any")

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.any = False

    async def __call__(self, text: str) -> None:
        self.any = True
        await self._emit(text)
