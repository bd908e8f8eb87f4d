"""HTTP with one pooled session for each event loop, and errors of ours instead of the library's."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from dspex.errors import DspexError, InternalError, ModelTimeoutError, ModelUnavailableError
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.inflation import ACCEPTED, Inflator, is_plain
from dspex.execution.clients.overtime import Overtime

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (looked up without regard to case) and whole body of one HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds to connect, seconds of silence and seconds in all that end a call; the greatest body in bytes."""

    connect: float = 10.0
    read: float = 120.0
    total: float = 900.0
    body: int = 32 * 1024 * 1024


class Transport:
    """Posts bytes and returns the answer. Sessions live as long as their loop and are closed with it."""

    def __init__(self, limits: Limits | None = None, *, quotes_errors: bool = True) -> None:
        """Take limits; no connection is made before the first call.

        `quotes_errors` says whether error messages may quote servers that are no known providers.
        """
        self.limits = limits or Limits()
        self.quotes_errors = quotes_errors
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Held] = WeakKeyDictionary()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request.

        Raises:
            ModelTimeoutError: no connection, or no byte, within the limits.
            ModelUnavailableError: refused, reset, cut off, or an answer over the limit.
        """
        held = self._sessions.get(asyncio.get_running_loop())
        held = held if held is not None and not held.session.closed else await self._begin()
        task = held.overtime.begin()
        try:
            async with await held.session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                length = response.content_length
                is_small = length is not None and length <= self.limits.body
                is_whole = is_small and "content-encoding" not in response.headers
                content = await response.read() if is_whole else await self._read(response)
                return Answer(response.status, response.headers, content)
        except (Exception, asyncio.CancelledError) as error:
            meant = self._meant(error, url, is_over=held.overtime.is_over(task))
            if meant is error:
                raise
            raise meant from error
        finally:
            held.overtime.end(task)

    async def events(
        self, url: str, body: bytes, *, headers: Mapping[str, str], take: Callable[[bytes], Awaitable[None]]
    ) -> Answer | None:
        """Send one request and give the data of each server-sent event to `take`, as they come.

        Returns the answer instead where it is no stream of events (an error, or a server that does not stream).

        Raises:
            ModelTimeoutError: see `post`.
            ModelUnavailableError: see `post`.
        """
        held = await self._begin()
        task = held.overtime.begin()
        try:
            async with await held.session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                if response.status != 200 or response.content_type != "text/event-stream":
                    return Answer(response.status, response.headers, await self._read(response))
                await self._split(response, take)
        except (Exception, asyncio.CancelledError) as error:
            meant = self._meant(error, url, is_over=held.overtime.is_over(task))
            if meant is error:
                raise
            raise meant from error
        finally:
            held.overtime.end(task)
        return None

    async def _split(self, response: "aiohttp.ClientResponse", take: Callable[[bytes], Awaitable[None]]) -> None:
        split = EventSplitter()

        async def cut(part: bytes) -> None:
            for data in split.feed(part):
                await take(data)

        await self._decoded(response, cut)

    async def _decoded(self, response: "aiohttp.ClientResponse", take: Callable[[bytes], Awaitable[None]]) -> None:
        """Give the body to `take` piece by piece, decoded; the limit is one of decoded bytes."""
        encoding, url = response.headers.get("content-encoding", ""), str(response.url)
        size = received = 0
        inflator = None if is_plain(encoding) else Inflator(encoding, ServerAddress.of(url).base_url)
        async for part in response.content.iter_any():
            received += len(part)
            self._check(received, url)
            for content in (part,) if inflator is None else inflator.feed(part):
                size += len(content)
                self._check(size, url)
                await take(content)
                if inflator is not None:
                    await asyncio.sleep(0)  # a small part may be much: others get their turn

    def _meant(self, error: BaseException, url: str, *, is_over: bool) -> BaseException:
        """Return what an exception means: one of the HTTP library, or the end of a call that `is_over` its time."""
        import aiohttp

        url = ServerAddress.of(url).base_url
        if isinstance(error, DspexError) or (isinstance(error, asyncio.CancelledError) and not is_over):
            return error
        if is_over or isinstance(error, TimeoutError):
            limit = self.limits
            return ModelTimeoutError(
                f"no answer from {url} in time (the limits: {limit.connect:g} s to connect, {limit.read:g} s of "
                f"silence, {limit.total:g} s in all)"
            )
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            detail = _detail(error)
            is_sent = not isinstance(error, aiohttp.ClientConnectorError)
            message = f"cannot reach {url}: {detail}. Is the server running, and the URL right?"
            return ModelUnavailableError(message, is_sent=is_sent)
        return InternalError(f"the request to {url} failed in a way that was not foreseen: {error!r}")

    def _check(self, size: int, url: str) -> None:
        if size > self.limits.body:
            url = ServerAddress.of(url).base_url
            raise ModelUnavailableError(f"the answer from {url} is longer than {self.limits.body} bytes")

    async def _read(self, response: "aiohttp.ClientResponse") -> bytes:
        if response.content_length is not None:
            self._check(response.content_length, str(response.url))
        body = bytearray()

        async def add(part: bytes) -> None:
            body.extend(part)

        await self._decoded(response, add)
        return bytes(body)

    async def _begin(self) -> "_Held":
        loop = asyncio.get_running_loop()
        held = self._sessions.get(loop)
        if held is None or held.session.closed:
            held = self._sessions[loop] = _Held(self.limits)
            await anext(held.life)
        return held

    async def aclose(self) -> None:
        """Close the running loop's session."""
        held = self._sessions.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.life.aclose()


class SharedTransport(Transport):
    """Connections of many models, which come and go: they end with `end`, and not with one of the models."""

    async def aclose(self) -> None:
        """Do nothing: other models have calls under way."""

    async def end(self) -> None:
        """Close the running loop's session."""
        await super().aclose()


def _detail(error: Exception) -> str:
    """Return what happened, without what the library repeats of the URL or of bytes that are no HTTP."""
    import aiohttp

    if isinstance(error, aiohttp.InvalidURL):
        return "the URL is malformed"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not answer in HTTP"
    return str(error) or type(error).__name__


class _Held:
    """A session and the generator that closes it: loops end their generators before they close (PEP 525)."""

    def __init__(self, limits: Limits) -> None:
        import aiohttp

        self.overtime = Overtime(limits.total)
        timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect, sock_read=limits.read)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            auto_decompress=False,  # it would be without a limit
            headers={"accept-encoding": ACCEPTED},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.life = self._live()

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.overtime.close()
            await self.session.close()


class EventSplitter:
    """Cuts a byte stream into the data of server-sent events, wherever the stream is torn.

    Format: WHATWG HTML, "Server-sent events"; fields other than `data` are of no use here and dropped.
    """

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []

    def feed(self, part: bytes) -> list[bytes]:
        """Return the data of each event that `part` completes."""
        if b"\n" not in part:
            self._rest.append(part)  # joined once: a long line is torn into thousands
            return []
        *lines, rest = b"".join((*self._rest, part)).split(b"\n")
        self._rest = [rest]
        found = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and self._data:
                found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
        return found
