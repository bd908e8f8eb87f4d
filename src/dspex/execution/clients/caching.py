"""Answers that were given before, from memory or from a file."""

import asyncio
import sqlite3
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from dspex.clock import Clock, SystemClock
from dspex.errors import StorageError, boundary
from dspex.execution.clients.keys import request_key
from dspex.execution.clients.language_model import Emit, LanguageModel, Request, Response, ask, retold
from dspex.execution.clients.wrapper import Wrapper
from dspex.language.records import Usage

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Response).decode


class ResponseStore:
    """Responses in one SQLite file, which processes may share. All work is done on one thread of its own."""

    def __init__(self, path: str | Path) -> None:
        """Take the file; it is opened, and made where it is missing, at the first use."""
        self.path = Path(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dspex-cache")
        self._connection: sqlite3.Connection | None = None

    async def get(self, key: str) -> bytes | None:
        """Return what is kept under `key`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._get, key)

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._put, key, value)

    async def aclose(self) -> None:
        """Close the file; it is opened again when it is needed."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)  # it holds prompts; what SQLite puts beside it has the same mode
            made = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("PRAGMA synchronous=NORMAL")
            made.execute("CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
            self._connection = made
        return self._connection

    def _get(self, key: str) -> bytes | None:
        with boundary(StorageError, f"the cache {str(self.path)!r} cannot be read"):
            row = self._open().execute("SELECT value FROM responses WHERE key = ?", (key,)).fetchone()
            return None if row is None else bytes(row[0])

    def _put(self, key: str, value: bytes) -> None:
        with boundary(StorageError, f"the cache {str(self.path)!r} cannot be written"):
            self._open().execute("INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, value))


class Caching(Wrapper):
    """Wraps a model: a request that was answered before is answered so again, with no usage and the time it took.

    Equal requests (messages, settings, seed, schema and tools) to one model are one; which model it is, its identity
    says, not its name. Failures are not kept. A request under way is not waited for: two equal ones at the same time
    are both made.
    """

    def __init__(
        self,
        model: LanguageModel,
        path: str | Path | None = None,
        *,
        entries: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        """Take the model, a file for answers to keep beyond this process, and how many to hold in memory."""
        super().__init__(model)
        self._clock = clock or SystemClock()
        self.hits = 0
        self.misses = 0
        self._entries = entries
        self._store = None if path is None else ResponseStore(path)
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Response] = OrderedDict()

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request` from memory, from the file, or by the model; a known answer is one piece."""
        key = request_key(self.identity, request)
        known = await self._known(key)
        return await (self._asked(key, request, emit) if known is None else retold(request, known, emit))

    async def aclose(self) -> None:
        """Free what the wrapped model holds, and close the file."""
        await self.model.aclose()
        if self._store is not None:
            await self._store.aclose()

    async def _known(self, key: str) -> Response | None:
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
        if held is None and self._store is not None and (stored := await self._store.get(key)) is not None:
            held = self._hold(key, _decode(stored))
        if held is None:
            self.misses += 1
            return None
        self.hits += 1
        return held

    async def _asked(self, key: str, request: Request, emit: Emit | None) -> Response:
        began = self._clock.monotonic_ns()
        response = await ask(self.model, request, emit)
        return await self._keep(key, response.taking((self._clock.monotonic_ns() - began) / 1e9))

    async def _keep(self, key: str, response: Response) -> Response:
        free = self._hold(key, msgspec.structs.replace(response, usage=Usage()))
        if self._store is not None:
            await self._store.put(key, _encode(free))
        return response

    def _hold(self, key: str, response: Response) -> Response:
        with self._lock:
            self._held[key] = response
            self._held.move_to_end(key)
            while len(self._held) > self._entries:
                self._held.popitem(last=False)
        return response
