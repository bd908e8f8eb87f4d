"""Responses in Redis or Valkey: what one process has asked, all others know."""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from dspex.argument_values import Positive
from dspex.arguments import checks_values
from dspex.clock import Clock, SystemClock
from dspex.errors import ConfigurationError
from dspex.execution.clients.address import REDIS_FORMS, is_redis_url

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
_PREFIX: Final = "dspex:responses:1:"  # the number changes with the form of the values
_TURN: Final = "dspex:turns:1:"
_AT_ONCE: Final = 32  # connections of one event loop
_REST_NS: Final = 1_000_000_000  # between two looks whether it is back
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1  # seconds between two looks for the answer of another
_EXTEND: Final = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then "
    "return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end"
)
_RELEASE: Final = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then "
    "return redis.call('del', KEYS[1]) else return 0 end"
)
_log = logging.getLogger("dspex.cache")


class RedisResponses:
    """The responses of models in Redis (or Valkey), shared by processes and hosts.

    A process that is about to ask a model takes a turn for the request. Others with the same
    request wait for its answer instead of asking too. If it fails or dies, the next one asks: a
    turn that is not renewed ends after `turn` seconds.

    Redis is never needed for an answer. If it is away, slow or refuses a command, models are asked
    as if nothing were stored, which is logged. From then on no call waits for it: once a second, it
    is tried beside the calls. Safe to use from many tasks, loops and threads.
    """

    @checks_values
    def __init__(
        self,
        url: str,
        *,
        keep: Positive = 7 * 86_400.0,
        turn: Positive = 6.0,
        timeout: Positive = 0.25,
        clock: Clock | None = None,
    ) -> None:
        """Take the address; the first use connects.

        Args:
            url: `redis://[[user:]password@]host[:port][/database]`, `rediss://` for TLS, or
                `unix://[:password@]/path`. What is not a letter, a digit or one of -._~ in the
                password is percent-encoded: %23 for #, %2F for /.
            keep: seconds until a response is forgotten.
            turn: seconds after which the request of a process that died may be asked by another.
            timeout: seconds for one command, and for a connection.
            clock: for tests.

        Raises:
            ConfigurationError: the package is not installed, or the address is not one of Redis.
        """
        if not is_redis_url(url):  # the message does not quote it: it may hold a password
            raise ConfigurationError(
                f"the address of Redis must be {REDIS_FORMS}; see `RedisResponses`"
            )
        try:
            import redis.asyncio
        except ImportError as error:
            raise ConfigurationError(
                "a cache in Redis needs the package redis: pip install 'dspex[redis]'"
            ) from error
        del redis
        self._url = url
        self._keep_ms = int(keep * 1000)
        self._turn_ms = int(turn * 1000)
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = (
            WeakKeyDictionary()
        )
        self._rests_until = 0
        self._is_away = False

    @property
    def address(self) -> str:
        """The address, without credentials."""
        return _without_password(self._url)

    async def get(self, key: str) -> bytes | None:
        """Return the response of `key`; None without one, and while Redis is away."""
        return await self._try(lambda client: client.get(_PREFIX + key), None)

    async def put(self, key: str, value: bytes) -> None:
        """Store a response, if Redis is there."""
        await self._try(lambda client: client.set(_PREFIX + key, value, px=self._keep_ms), None)

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[bytes | None]:
        """Wait for this process's turn to ask; yield a response if another one has asked meanwhile.

        If None is yielded, the block asks the model and stores the response. At its end, the next
        process has its turn.
        """
        token = uuid.uuid4().hex
        response, has_turn = await self._wait(key, token)
        if not has_turn:
            yield response
            return
        renewal = asyncio.create_task(self._renew(key, token))
        try:
            yield None
        finally:
            renewal.cancel()
            await self._try(lambda client: client.eval(_RELEASE, 1, _TURN + key, token), None)

    async def ping(self) -> None:
        """Check that Redis answers.

        Raises:
            ConfigurationError: it does not; the message has the reason.
        """
        client = await self._client()
        try:
            await client.redis.ping()
        except _errors() as error:
            raise ConfigurationError(f"{self.address} cannot be used: {error}") from error

    async def aclose(self) -> None:
        """Close the connections of the running loop; the next use opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.lifetime.aclose()

    async def _wait(self, key: str, token: str) -> tuple[bytes | None, bool]:
        """Return the response of another process, or whether it is the turn of this one."""

        async def look(client: "Redis") -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            pipeline.set(_TURN + key, token, nx=True, px=self._turn_ms)
            pipeline.get(_PREFIX + key)
            return list(await pipeline.execute())

        pause = _FIRST_PAUSE
        while True:
            has_turn, response = await self._try(look, (None, None))
            if response is not None:
                if has_turn:
                    await self._try(
                        lambda client: client.eval(_RELEASE, 1, _TURN + key, token), None
                    )
                return response, False
            if has_turn:
                return None, True
            if self._is_away:
                return None, False
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _renew(self, key: str, token: str) -> None:
        while True:
            await self._clock.sleep(self._turn_ms / 3000)
            await self._try(
                lambda client: client.eval(_EXTEND, 1, _TURN + key, token, self._turn_ms), None
            )

    async def _try(self, command: Callable[["Redis"], Awaitable[Any]], otherwise: T) -> Any | T:
        """Return what a command returns; `otherwise` while Redis is away."""
        client = await self._client()
        async with client.slots:
            if self._is_away:
                self._try_again(client)
                return otherwise
            try:
                return await command(client.redis)
            except _errors() as error:
                self._rests_until = self._clock.monotonic_ns() + _REST_NS
                if not self._is_away:
                    _log.warning(
                        "%s cannot be used, models are asked without it: %s: %s",
                        self.address,
                        type(error).__name__,
                        error,
                    )
                self._is_away = True
                return otherwise

    def _try_again(self, client: "_LoopClient") -> None:
        """Find out beside the calls whether Redis is back, once a second."""
        now = self._clock.monotonic_ns()
        if now >= self._rests_until:
            self._rests_until = now + _REST_NS
            client.trial = asyncio.create_task(self._end_outage(client))

    async def _end_outage(self, client: "_LoopClient") -> None:
        try:
            await client.redis.ping()
        except _errors() as error:
            _log.debug("%s is still away: %s", self.address, error)
            return
        self._is_away = False
        _log.warning("%s can be used again", self.address)

    async def _client(self) -> "_LoopClient":
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = _LoopClient(self._url, self._timeout)
            await anext(client.lifetime)
        return client


class _LoopClient:
    """The connections of one loop, and the generator that closes them: loops close theirs first."""

    def __init__(self, url: str, timeout: float) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self.redis = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self.slots = asyncio.Semaphore(_AT_ONCE)
        self.trial: asyncio.Task[None] | None = None
        self.lifetime = self._live()

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self.trial is not None:
                self.trial.cancel()
            await self.redis.aclose()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"


def _errors() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError

    return (RedisError, OSError, TimeoutError)
