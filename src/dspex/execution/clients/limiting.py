"""Limit requests and tokens per minute, and concurrency."""

import asyncio
import threading
from collections import deque

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.errors import RateLimitedError
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.media_tokens import content_tokens
from dspex.execution.clients.wrapper import Wrapper
from dspex.sync import wake

_BURST = 6.0  # seconds' worth in a bucket, so that no minute exceeds its limit by more than a tenth

_EARLY = 0.001  # a timer may wake this many seconds before its time


@checks_names
class Limiting(Wrapper):
    """Wraps a model; requests wait their turn, first come, first served.

    Concurrency starts at `concurrency`, is halved when the provider answers 429, and grows by one
    for each round of successes, up to `concurrency`. A `Retry-After` delays all waiting requests.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        concurrency: int = 64,
        clock: Clock | None = None,
    ) -> None:
        """Take the limits (None: unlimited); tokens are estimated before a call, then corrected."""
        super().__init__(model)
        self._clock = clock or SystemClock()
        self._requests = None if requests_per_minute is None else _Rate(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Rate(tokens_per_minute)
        self._slots = _Slots(concurrency)
        self._resume_at = 0.0

    @property
    def concurrency(self) -> int:
        """How many requests may be in progress now."""
        return self._slots.limit

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Wait for a turn, then answer `request`."""
        await self._slots.take()
        try:
            estimate = (request.max_tokens or 0) + sum(
                len(message.text) / 4 + content_tokens(self.identity.label, message)
                for message in request.messages
            )
            await self._wait_turn(estimate)
            start = self._now()
            try:
                response = (await ask(self.model, request, emit)).with_seconds(self._now() - start)
            except RateLimitedError as error:
                self._slots.shrink()
                retry_after = error.retry_after
                if retry_after is not None:
                    self._resume_at = max(self._resume_at, self._now() + retry_after)
                raise
            self._slots.grow()
            if self._tokens is not None:
                self._tokens.correct(response.usage.total_tokens - estimate)
            return response
        finally:
            self._slots.give_back()

    async def _wait_turn(self, tokens: float) -> None:
        now = self._now()
        due = now
        if self._requests is not None:
            due = max(due, now + self._requests.reserve(1, now))
        if self._tokens is not None:
            due = max(due, now + self._tokens.reserve(tokens, now))
        # a Retry-After may arrive in the meantime
        while (remaining := max(due, self._resume_at) - self._now()) > _EARLY:
            await self._clock.sleep(remaining)

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9


class _Rate:
    """A leaky bucket that returns waiting times (generic cell rate algorithm, ITU-T I.371)."""

    def __init__(self, per_minute: float) -> None:
        self._second = per_minute / 60
        self._full_at = 0.0
        self._lock = threading.Lock()

    def reserve(self, amount: float, now: float) -> float:
        """Take `amount` and return how many seconds to wait before using it."""
        with self._lock:
            begin = max(self._full_at, now)
            burst = max(_BURST, 1 / self._second)  # one request always fits
            self._full_at = begin + amount / self._second
            return max(0.0, begin - now - burst + min(amount / self._second, burst))

    def correct(self, amount: float) -> None:
        """Take `amount` more; a negative amount is returned to the bucket."""
        with self._lock:
            self._full_at += amount / self._second


class _Slots:
    """A semaphore of variable size, for waiters on any event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._limit = float(size)
        self._in_use = 0
        self._lock = threading.Lock()
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    async def take(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._in_use < self.limit and not self._waiters:
                self._in_use += 1
                return
            turn: asyncio.Future[None] = loop.create_future()
            self._waiters.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                is_waiting = (loop, turn) in self._waiters
                if is_waiting:
                    self._waiters.remove((loop, turn))
            if not is_waiting:
                self.give_back()
            raise

    def give_back(self) -> None:
        with self._lock:
            self._in_use -= 1
            while self._waiters and self._in_use < self.limit:
                loop, turn = self._waiters.popleft()
                if loop.is_closed():
                    continue
                self._in_use += 1
                loop.call_soon_threadsafe(wake, turn)

    def shrink(self) -> None:
        with self._lock:
            self._limit = max(1.0, self._limit / 2)

    def grow(self) -> None:
        with self._lock:
            self._limit = min(float(self._size), self._limit + 1 / self._limit)
