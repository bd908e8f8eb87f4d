"""A model made of several: each call goes to one that is likely to answer it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.errors import (
    DefinitionError,
    ModelError,
    ModelUnavailableError,
    describe,
)
from dspex.execution.clients.attempts import (
    Attempts,
    current_attempts,
    end_attempts,
    share_attempts,
)
from dspex.execution.clients.budgeted import ParallelAttempt, lost, switch
from dspex.execution.clients.identity import identify, joint_identity
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.retrying import Retrying
from dspex.execution.clients.routing.circuit import CircuitLimits
from dspex.execution.clients.routing.decision import decide, excludes
from dspex.execution.clients.routing.endpoints import Endpoints
from dspex.execution.clients.routing.hedged_call import HedgedCall
from dspex.execution.clients.routing.policies import RoutePolicy, find_policy
from dspex.execution.clients.routing.state import Action, Ask, CallState, Stop, Wait
from dspex.execution.clients.wrapper import StreamedReply
from dspex.sync import wake

_DEFAULT_CIRCUIT = CircuitLimits()
_SHORTEST = 0.001  # seconds of a wait


@checks_names
class Route:
    """Wraps several models; a policy chooses which one answers, and which one if that fails.

    An endpoint that keeps failing is left out and probed, one with a rate limit is left out for as
    long as it asks. A call makes at most `attempts` attempts, whatever its models wrap: a
    `Retrying` inside makes one. Its capabilities are what all models share. After the first chunk
    of a streamed reply no other model is asked. Safe for threads.
    """

    def __init__(  # collaborators and limits, all named
        self,
        first: LanguageModel,
        *others: LanguageModel,
        policy: RoutePolicy | str = "fallback",
        name: str | None = None,
        weights: Sequence[float] | None = None,
        attempts: int | None = None,
        circuit: CircuitLimits = _DEFAULT_CIRCUIT,
        patience: float = 10.0,
        percentile: float = 0.95,
        hedge_share: float = 0.1,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Take the models in their order.

        A call makes at most `attempts` attempts (by default one more than models, at least 4), and
        waits up to `patience` seconds while no model may be asked. `weights` are for the policy
        "weighted". "hedged" asks another model after the `percentile` of the recent latency, for at
        most `hedge_share` of all calls. `name` is by default that of the first model; `rng` draws
        for weights and delays.

        Raises:
            DefinitionError: the policy is unknown, or a number is out of range.
        """
        self.models = (first, *others)
        weights = [1.0] * len(self.models) if weights is None else weights
        self.attempts = max(4, len(self.models) + 1) if attempts is None else attempts
        _check(
            self.models,
            weights,
            self.attempts,
            patience=patience,
            percentile=percentile,
            hedge_share=hedge_share,
        )
        self.name = name or first.name
        self.identity = joint_identity(self.models)
        self.capabilities = frozenset.intersection(*(model.capabilities for model in self.models))
        self.policy = find_policy(policy) if isinstance(policy, str) else policy
        self.patience = patience
        # only the route asks again
        self._models = [_without_retries(model) for model in self.models]
        self._endpoints = Endpoints(
            [identify(model) for model in self.models],
            weights=weights,
            limits=circuit,
            percentile=percentile,
            hedge_share=hedge_share,
        )
        self._clock = clock or SystemClock()
        self._nanoseconds = self._clock.monotonic_ns
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, keeps no secret
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"Route({', '.join(map(repr, self.models))}, policy={self.policy.name!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request`; see `LanguageModel.complete`."""
        return await self._answer(request, None)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` in chunks; see `StreamingModel.stream`."""
        return await self._answer(request, StreamedReply(emit))

    async def aclose(self) -> None:
        """Close all models."""
        for model in self.models:
            await model.aclose()

    def explain(self) -> tuple[CallState, Action]:
        """Return the state of the route, and what it would decide for a call now."""
        state = CallState(
            now=self._now(),
            endpoints=self._endpoints.states,
            attempts=self.attempts,
            hedges=self._endpoints.hedges,
        )
        return state, decide(self.policy, state, None)

    async def _answer(self, request: Request, emit: StreamedReply | None) -> Response:
        attempts = current_attempts()
        call = _Call(request, emit, attempts or Attempts(self.attempts - 1))
        call.patience = self.patience
        token = None if attempts is not None else share_attempts(call.attempts)
        try:
            while True:
                action = self._decide(call)
                if not isinstance(action, Ask):
                    await self._hold(call, action)
                elif action.delay:
                    await self._clock.sleep(action.delay)
                    call.has_rested = True
                elif (response := await self._attempt(call, action)) is not None:
                    return response
        finally:
            if token is not None:
                end_attempts(token)

    async def _hold(self, call: "_Call", action: Wait | Stop) -> None:
        if isinstance(action, Stop):
            raise self._error(call, action)
        start = self._now()
        await self._wait(action.seconds)
        call.patience -= self._now() - start

    async def _attempt(self, call: "_Call", ask: Ask) -> Response | None:
        """Make one attempt; after a model's error, remember it and return None."""
        if call.asked:
            call.attempts.take()
            call.has_rested = False
        call.asked = (*call.asked, ask.endpoint)
        await switch(call.request, self._models[ask.endpoint])
        try:
            if ask.hedge is None:
                return await self._ask(call, ask, ask.endpoint, emit=call.emit)
            return await self._race(call, ask, ask.hedge)
        except ModelError as error:
            lost(error)
            call.error = error
            return None

    def _decide(self, call: "_Call") -> Action:
        """Decide, and count the attempt at once, so that no other call makes the same probe."""
        endpoints, emit = self._endpoints, call.emit
        with endpoints.lock:
            now = self._now()
            state = CallState(
                now=now,
                endpoints=endpoints.states,
                attempts=call.attempts.left + (0 if call.asked else 1),
                patience=call.patience,
                draw=self._rng.random(),
                is_streamed=emit is not None,
                has_schema=call.request.response_schema is not None,
                hedges=endpoints.hedges,
            )
            if call.asked:
                state = msgspec.structs.replace(
                    state,
                    asked=call.asked,
                    excluded=call.excluded,
                    has_rested=call.has_rested,
                    has_chunks=emit is not None and emit.has_chunks,
                )
            action = decide(self.policy, state, call.error)
            if isinstance(action, Ask) and not action.delay:
                endpoints.begin(action, now)
            return action

    async def _ask(self, call: "_Call", action: Ask, index: int, *, emit: Emit | None) -> Response:
        """Ask one endpoint, and count the result."""
        endpoints, asked_at = self._endpoints, self._now()
        if emit is not None:
            emit = _TimedReply(emit, lambda: self._time(index, asked_at, is_streamed=True))
        try:
            response = await ask(self._models[index], call.request, emit)
        except ModelError as error:
            endpoints.fail(index, error, self._now())
            call.fail(index, error, endpoints.states[index].label)
            raise
        now = self._now()
        if endpoints.settle(
            index,
            call.request,
            response,
            asked_at=asked_at,
            now=now,
            is_streamed=emit is not None,
        ):
            self._wake_all()
        seconds = now - asked_at if response.seconds is None else response.seconds
        route = self._record(call, index, action)
        return msgspec.structs.replace(response, seconds=seconds, route=route)

    async def _race(self, call: "_Call", action: Ask, hedge: int) -> Response:
        """Ask one endpoint, and another one too if it is late."""
        race, second, start = HedgedCall(call.emit), ParallelAttempt(), self._now()

        async def ask_second(emit: Emit | None) -> Response:
            await second.start(call.request, self._models[hedge])
            try:
                return await self._ask(call, action, hedge, emit=emit)
            except BaseException as error:
                second.lose(error)
                raise

        def may_begin() -> bool:
            if call.attempts.left <= 0 or not self._endpoints.take_hedge():
                return False
            call.asked = (*call.asked, hedge)
            return call.attempts.take()

        response = await race.run(
            (lambda emit: self._ask(call, action, action.endpoint, emit=emit), ask_second),
            after=action.hedge_after,
            clock=self._clock,
            may_begin=may_begin,
        )
        if not race.has_second:
            return response
        loser, start = hedge, start + action.hedge_after
        if race.winner == 1:
            second.win()
            loser, start = action.endpoint, start - action.hedge_after
        if not race.errors:
            self._time(loser, start, is_streamed=call.emit is not None)
        route = {**(response.route or {}), "hedge": self._endpoints.states[hedge].label}
        return msgspec.structs.replace(response, route=route)

    async def _wait(self, seconds: float) -> None:
        """Wait, at most until a circuit closes."""
        loop = asyncio.get_running_loop()
        change = loop.create_future()
        timer = asyncio.create_task(self._clock.sleep(max(seconds, _SHORTEST)))
        self._waiters.append((loop, change))
        try:
            await asyncio.wait([timer, change], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
            if (loop, change) in self._waiters:
                self._waiters.remove((loop, change))

    def _wake_all(self) -> None:
        waiters, self._waiters = self._waiters, []
        for loop, change in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake, change)

    def _time(self, index: int, start: float, *, is_streamed: bool) -> None:
        now = self._now()
        self._endpoints.time(index, now - start, now, is_streamed=is_streamed)

    def _record(self, call: "_Call", index: int, action: Ask | Stop) -> dict[str, Any]:
        """Return what the span of the call says."""
        record: dict[str, Any] = {"name": self.name, "policy": self.policy.name}
        if isinstance(action, Ask):
            record["model"] = self._endpoints.states[index].label
        record["reason"] = action.reason
        if action.rejected:
            record["rejected"] = action.rejected
        if call.failures:
            record["failures"] = list(call.failures)
        return record

    def _error(self, call: "_Call", action: Stop) -> ModelError:
        """Return the error of a call that ends without a reply."""
        error = call.error
        if error is None:
            reasons = "; ".join(f"{label}: {reason}" for label, reason in action.rejected.items())
            error = ModelUnavailableError(
                f"the route {self.name!r}: {action.reason} ({reasons})",
                is_sent=False,
                retry_after=action.retry_after,
            )
        error.route = self._record(call, 0, action)
        return error

    def _now(self) -> float:
        return self._nanoseconds() / 1e9


class _Call:
    """One call of a route, and what it has tried."""

    __slots__ = (
        *(
            "asked",
            "attempts",
            "emit",
            "error",
            "excluded",
            "failures",
            "has_rested",
            "patience",
            "request",
        ),
    )

    def __init__(self, request: Request, emit: StreamedReply | None, attempts: Attempts) -> None:
        self.request = request
        self.emit = emit
        self.attempts = attempts
        self.asked: tuple[int, ...] = ()
        self.excluded: frozenset[int] = frozenset()
        self.error: ModelError | None = None
        self.failures: list[dict[str, str]] = []
        self.has_rested = False
        self.patience = 0.0

    def fail(self, index: int, error: ModelError, label: str) -> None:
        """Remember an error."""
        if excludes(error):
            self.excluded |= {index}
        self.failures.append({"model": label, "error": describe(error)[:500]})


class _TimedReply:
    """Forwards chunks, and calls a function before the first one."""

    __slots__ = ("_emit", "_on_first")

    def __init__(self, emit: Emit, on_first: Callable[[], None]) -> None:
        self._emit = emit
        self._on_first: Callable[[], None] | None = on_first

    async def __call__(self, text: str) -> None:
        if self._on_first is not None:
            self._on_first()
            self._on_first = None
        await self._emit(text)


def _without_retries(model: LanguageModel) -> LanguageModel:
    return model.model if isinstance(model, Retrying) else model


def _check(
    models: Sequence[LanguageModel],
    weights: Sequence[float],
    attempts: int,
    *,
    patience: float,
    percentile: float,
    hedge_share: float,
) -> None:
    if len(weights) != len(models) or not all(_is_positive(weight) for weight in weights):
        raise DefinitionError(
            f"`weights` of a route are {len(models)} numbers above 0, one for each model, not "
            f"{weights!r}"
        )
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise DefinitionError(f"`attempts` of a route is a whole number from 1, not {attempts!r}")
    shares = {"patience": (patience, 86_400.0), "percentile": (percentile, 1.0)}
    for name, (value, most) in {**shares, "hedge_share": (hedge_share, 1.0)}.items():
        if not (isinstance(value, int | float) and 0 <= value <= most):
            raise DefinitionError(f"`{name}` of a route is from 0 to {most:g}, not {value!r}")


def _is_positive(value: object) -> bool:
    """Return whether `value` is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12
