"""Models with a name in the settings: a model string or a route, and wrappers around it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dspex.clock import Clock, SystemClock
from dspex.errors import ModelTimeoutError
from dspex.execution.clients.budget import Budget
from dspex.execution.clients.budgeted import Budgeted
from dspex.execution.clients.caching import Caching, SharedResponses
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.limiting import Limiting
from dspex.execution.clients.retrying import Retrying
from dspex.execution.clients.routing.circuit import CircuitLimits
from dspex.execution.clients.routing.route import Route
from dspex.execution.clients.transport import Answer, SharedTransport
from dspex.execution.clients.wrapper import Wrapper
from dspex.language.records.canonical import json_bytes

REDIS = "redis"  # as `cache`: the responses are in the Redis of the settings
_ROUTE = ("policy", "weights", "attempts", "patience", "percentile", "hedge_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """The table of a named model: either `model` or the `models` of a route, and its wrappers.

    None means the default of the wrapper.
    """

    model: str | None = None
    models: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    policy: str | None = None
    weights: tuple[float, ...] | None = None
    attempts: int | None = None
    patience: float | None = None
    percentile: float | None = None
    hedge_share: float | None = None
    circuit: Mapping[str, Any] = field(default_factory=dict)
    cache: bool | str = False
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None
    timeout: float | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)


class AttemptTimeout(Wrapper):
    """Wraps a model; an attempt fails after a number of seconds."""

    def __init__(self, model: LanguageModel, seconds: float) -> None:
        """Take the model and the seconds."""
        super().__init__(model)
        self._seconds = seconds

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request`.

        Raises:
            ModelTimeoutError: the time is over.
        """
        try:
            async with asyncio.timeout(self._seconds) as limit:
                return await ask(self.model, request, emit)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ModelTimeoutError(
                f"{self.name!r} did not answer within {self._seconds:g} s"
            ) from error


class ExtraBody(SharedTransport):
    """Adds members to the JSON body of each request."""

    def __init__(self, transport: SharedTransport, members: Mapping[str, Any]) -> None:
        """Take the connections and the members."""
        super().__init__(transport.limits, quotes_errors=transport.quotes_errors)
        self._transport = transport
        self._members = members

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request; see `Transport.post`."""
        return await self._transport.post(url, self._extend(body), headers)

    async def events(self, url: str, body: bytes, **more: Any) -> Answer | None:
        """Send one request for a stream; see `Transport.events`."""
        return await self._transport.events(url, self._extend(body), **more)

    def _extend(self, body: bytes) -> bytes:
        return json_bytes({**msgspec.json.decode(body), **self._members})


def build_model(
    name: str,
    table: ModelTable,
    *,
    resolve: Callable[[str], LanguageModel],
    budget: Budget | None,
    redis: Callable[[], SharedResponses],
    clock: Clock | None = None,
) -> LanguageModel:
    """Return the model of a table.

    `resolve` returns the models that it refers to, `redis` the shared responses if it caches there.

    Raises:
        ConfigurationError: a model cannot be opened, or Redis cannot be used.
    """
    clock = clock or SystemClock()
    if table.models:
        model: LanguageModel = _route(name, table, [resolve(text) for text in table.models])
    else:
        model = _with_limits(table, resolve(str(table.model)), clock=clock)
    if table.fallback:
        model = _route(name, table, [model, *(resolve(text) for text in table.fallback)])
    if budget is not None:
        model = Budgeted(model, budget)
    if table.cache:
        if table.cache == REDIS:
            model = Caching(model, shared=redis(), clock=clock)
        else:
            path = None if table.cache is True else Path(str(table.cache)).expanduser()
            model = Caching(model, path, clock=clock)
    return model


def _route(name: str, table: ModelTable, models: list[LanguageModel]) -> Route:
    options = {key: getattr(table, key) for key in _ROUTE}
    options = {key: value for key, value in options.items() if value is not None}
    return Route(*models, name=name, circuit=CircuitLimits(**table.circuit), **options)


def _with_limits(table: ModelTable, model: LanguageModel, *, clock: Clock) -> LanguageModel:
    """Add limits to each attempt: inside of what asks again."""
    is_client = isinstance(model, Retrying)
    inner = model.model if isinstance(model, Retrying) else model
    if table.timeout is not None:
        inner = AttemptTimeout(inner, table.timeout)
    rates = (table.requests_per_minute, table.tokens_per_minute)
    if table.concurrency is not None or any(rates):
        inner = Limiting(
            inner,
            requests_per_minute=rates[0],
            tokens_per_minute=rates[1],
            concurrency=table.concurrency or 64,
            clock=clock,
        )
    if not is_client and table.attempts is None:
        return inner
    return Retrying(inner, attempts=table.attempts or 4, clock=clock)
