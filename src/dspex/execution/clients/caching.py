"""Cache model responses in memory and in a file."""

import asyncio
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.errors import ConfigurationError, StorageError, boundary
from dspex.execution.clients.language_model import (
    Emit,
    LanguageModel,
    Request,
    Response,
    ask,
    emit_whole,
)
from dspex.execution.clients.request_keys import request_key
from dspex.execution.clients.wrapper import Wrapper
from dspex.language.records import Usage

T = TypeVar("T")
_encode: Callable[[Response], bytes] = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Response).decode


class SharedResponses(Protocol):
    """Responses that processes share, such as `RedisResponses`; each request is made once."""

    async def get(self, key: str) -> bytes | None:
        """Return the response of `key`, None if there is none."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Store the response of `key`."""
        ...

    def turn(self, key: str) -> AbstractAsyncContextManager[bytes | None]:
        """Wait until no other process asks; yield its response, or None if this one is to ask."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class ResponseStore:
    """Responses in one SQLite file, which processes may share. A dedicated thread does all work."""

    def __init__(self, path: str | Path) -> None:
        """Take the file; the first use opens it, or creates it."""
        self.path = Path(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dspex-cache")
        self._connection: sqlite3.Connection | None = None

    async def get(self, key: str) -> bytes | None:
        """Return the value stored under `key`, None if there is none."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._get, key)

    async def put(self, key: str, value: bytes) -> None:
        """Store `value` under `key`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._put, key, value)

    async def aclose(self) -> None:
        """Close the file; the next use opens it again."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # it holds prompts; SQLite creates its other files with the same mode
            self.path.touch(mode=0o600)
            connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, value BLOB NOT NULL)"
            )
            self._connection = connection
        return self._connection

    def _get(self, key: str) -> bytes | None:
        with boundary(StorageError, f"the cache {str(self.path)!r} cannot be read"):
            row = (
                self._open().execute("SELECT value FROM responses WHERE key = ?", (key,)).fetchone()
            )
            return None if row is None else bytes(row[0])

    def _put(self, key: str, value: bytes) -> None:
        with boundary(StorageError, f"the cache {str(self.path)!r} cannot be written"):
            self._open().execute("INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, value))


class Cache(Generic[T]):
    """Values in memory and, encoded, in a store; `hits` and `misses` count what `get` returns."""

    def __init__(
        self,
        store: ResponseStore | SharedResponses | None,
        *,
        entries: int,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
    ) -> None:
        """Take the store, how many values to hold in memory, and the form of stored values."""
        self.hits = 0
        self.misses = 0
        self._entries = entries
        self._encode = encode
        self._decode = decode
        self._store = store
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, T] = OrderedDict()

    async def get(self, key: str) -> T | None:
        """Return the value of `key` from memory or the store, None if there is none."""
        with self._lock:
            value = self._memory.get(key)
            if value is not None:
                self._memory.move_to_end(key)
        if (
            value is None
            and self._store is not None
            and (data := await self._store.get(key)) is not None
        ):
            value = self._read(key, data)
        if value is None:
            self.misses += 1
            return None
        self.hits += 1
        return value

    def accept(self, key: str, data: bytes) -> T | None:
        """Return a value that the store has since `get` missed it; it counts as a hit then."""
        value = self._read(key, data)
        if value is not None:
            self.hits += 1
            self.misses -= 1
        return value

    async def put(self, key: str, value: T) -> None:
        """Store `value` under `key`."""
        self._remember(key, value)
        if self._store is not None:
            await self._store.put(key, self._encode(value))

    async def aclose(self) -> None:
        """Close the store; the next use opens it again."""
        if self._store is not None:
            await self._store.aclose()

    def _read(self, key: str, data: bytes) -> T | None:
        """Return an encoded value; None if it is not one, which the next `put` replaces."""
        try:
            return self._remember(key, self._decode(data))
        except msgspec.MsgspecError:
            return None

    def _remember(self, key: str, value: T) -> T:
        with self._lock:
            self._memory[key] = value
            self._memory.move_to_end(key)
            while len(self._memory) > self._entries:
                self._memory.popitem(last=False)
        return value


@checks_names
class Caching(Wrapper):
    """Wraps a model; answers repeated requests from the cache.

    A cached response has no usage and its original duration. The key is the model's identity (not
    its name) and the request: messages, settings, seed, schema and tools. Failures are not cached.
    Two equal requests at the same time are both sent, unless the responses are `shared`.
    """

    def __init__(
        self,
        model: LanguageModel,
        path: str | Path | None = None,
        *,
        shared: SharedResponses | None = None,
        entries: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        """Take the model, and where to keep responses: in a file, or `shared` with other processes.

        `entries` is how many are held in memory.

        Raises:
            ConfigurationError: a file and `shared` responses are given.
        """
        super().__init__(model)
        if path is not None and shared is not None:
            raise ConfigurationError("keep responses in a file or in `shared`, not in both")
        self._clock = clock or SystemClock()
        self._shared = shared
        store = shared if path is None else ResponseStore(path)
        self._cache = Cache(store, entries=entries, encode=_encode, decode=_decode)

    @property
    def hits(self) -> int:
        """The number of answers that came from the cache."""
        return self._cache.hits

    @property
    def misses(self) -> int:
        """The number of requests that were not in the cache."""
        return self._cache.misses

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer from memory, the store, or the model; a cached answer is a single chunk."""
        key = request_key(self.identity, request)
        response = await self._cache.get(key)
        if response is not None:
            return await emit_whole(request, response, emit)
        if self._shared is None:
            return await self._ask(key, request, emit)
        async with self._shared.turn(key) as data:
            if data is not None and (response := self._cache.accept(key, data)) is not None:
                return await emit_whole(request, response, emit)
            return await self._ask(key, request, emit)

    async def _ask(self, key: str, request: Request, emit: Emit | None) -> Response:
        start = self._clock.monotonic_ns()
        response = await ask(self.model, request, emit)
        response = response.with_seconds((self._clock.monotonic_ns() - start) / 1e9)
        await self._cache.put(key, msgspec.structs.replace(response, usage=Usage(), route=None))
        return response

    async def aclose(self) -> None:
        """Close the wrapped model and the store."""
        await self.model.aclose()
        await self._cache.aclose()
