"""HTTP with one pooled session per event loop; translates library errors into ours."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from dspex.errors import DspexError, InternalError, ModelTimeoutError, ModelUnavailableError
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.deadlines import CallDeadlines
from dspex.execution.clients.inflation import ACCEPTED, Inflator, is_plain

if TYPE_CHECKING:
    import aiohttp


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Status, headers (case-insensitive) and whole body of one HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits in seconds (to connect, between reads, in total) and on the body in bytes."""

    connect: float = 10.0
    read: float = 120.0
    total: float = 900.0
    body: int = 32 * 1024 * 1024


class Transport:
    """Posts bytes and returns the response. Sessions are closed with their event loop."""

    def __init__(self, limits: Limits | None = None, *, quotes_errors: bool = True) -> None:
        """Take limits; the first call opens a connection.

        `quotes_errors` says whether error messages may quote servers that are not known providers.
        """
        self.limits = limits or Limits()
        self.quotes_errors = quotes_errors
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopSession] = (
            WeakKeyDictionary()
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request.

        Raises:
            ModelTimeoutError: connecting, reading or the whole call took longer than the limits.
            ModelUnavailableError: the connection failed, or the response exceeds the limit.
        """
        session = self._sessions.get(asyncio.get_running_loop())
        session = (
            session
            if session is not None and not session.http.closed
            else await self._open_session()
        )
        task = session.deadlines.begin()
        try:
            response = await session.http.post(
                url, data=body, headers=headers, allow_redirects=False
            )
            try:
                length = response.content_length
                is_small = length is not None and length <= self.limits.body
                is_whole = is_small and "content-encoding" not in response.headers
                content = await response.read() if is_whole else await self._read(response)
                return Answer(response.status, response.headers, content)
            finally:
                response.release()
        except (Exception, asyncio.CancelledError) as error:
            translated = self._translate(error, url, is_over=session.deadlines.is_over(task))
            if translated is error:
                raise
            raise translated from error
        finally:
            session.deadlines.end(task)

    async def events(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        take: Callable[[bytes], Awaitable[None]],
    ) -> Answer | None:
        """Send one request and pass the data of each server-sent event to `take`.

        Returns the response instead if it is not an event stream (an error, or no streaming
        support).

        Raises:
            ModelTimeoutError: see `post`.
            ModelUnavailableError: see `post`.
        """
        session = await self._open_session()
        task = session.deadlines.begin()
        try:
            async with await session.http.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200 or response.content_type != "text/event-stream":
                    return Answer(response.status, response.headers, await self._read(response))
                await self._split(response, take)
        except (Exception, asyncio.CancelledError) as error:
            translated = self._translate(error, url, is_over=session.deadlines.is_over(task))
            if translated is error:
                raise
            raise translated from error
        finally:
            session.deadlines.end(task)
        return None

    async def _split(
        self, response: "aiohttp.ClientResponse", take: Callable[[bytes], Awaitable[None]]
    ) -> None:
        split = EventSplitter()

        async def cut(part: bytes) -> None:
            for data in split.feed(part):
                await take(data)

        await self._decoded(response, cut)

    async def _decoded(
        self, response: "aiohttp.ClientResponse", take: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Pass the decoded body to `take` in chunks; the limit applies to the decoded bytes."""
        encoding, url = response.headers.get("content-encoding", ""), str(response.url)
        size = received = 0
        inflator = (
            None if is_plain(encoding) else Inflator(encoding, ServerAddress.of(url).base_url)
        )
        async for part in response.content.iter_any():
            received += len(part)
            self._check(received, url)
            for content in (part,) if inflator is None else inflator.feed(part):
                size += len(content)
                self._check(size, url)
                await take(content)
                if inflator is not None:
                    await asyncio.sleep(0)  # a small part may decode to a lot: let other tasks run

    def _translate(self, error: BaseException, url: str, *, is_over: bool) -> BaseException:
        """Translate an exception of the HTTP library, or of a call that `is_over` its time."""
        import aiohttp

        url = ServerAddress.of(url).base_url
        if isinstance(error, DspexError) or (
            isinstance(error, asyncio.CancelledError) and not is_over
        ):
            return error
        if is_over or isinstance(error, TimeoutError):
            limit = self.limits
            return ModelTimeoutError(
                f"no answer from {url} in time (the limits: {limit.connect:g} s to connect, "
                f"{limit.read:g} s of silence, {limit.total:g} s in all)"
            )
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):
            detail = _detail(error)
            is_sent = not isinstance(error, aiohttp.ClientConnectorError)
            message = f"cannot reach {url}: {detail}. Is the server running, and the URL right?"
            return ModelUnavailableError(message, is_sent=is_sent)
        return InternalError(f"the request to {url} failed unexpectedly: {error!r}")

    def _check(self, size: int, url: str) -> None:
        if size > self.limits.body:
            url = ServerAddress.of(url).base_url
            raise ModelUnavailableError(
                f"the answer from {url} is longer than {self.limits.body} bytes"
            )

    async def _read(self, response: "aiohttp.ClientResponse") -> bytes:
        if response.content_length is not None:
            self._check(response.content_length, str(response.url))
        body = bytearray()

        async def add(part: bytes) -> None:
            body.extend(part)

        await self._decoded(response, add)
        return bytes(body)

    async def _open_session(self) -> "_LoopSession":
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.http.closed:
            session = self._sessions[loop] = _LoopSession(self.limits)
            await anext(session.lifetime)
        return session

    async def aclose(self) -> None:
        """Close the running loop's session."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.lifetime.aclose()


class SharedTransport(Transport):
    """A transport that many models share; `end` closes it, closing a model does not."""

    async def aclose(self) -> None:
        """Do nothing: other models may have calls in progress."""

    async def end(self) -> None:
        """Close the running loop's session."""
        await super().aclose()


def _detail(error: Exception) -> str:
    """Describe the error without the parts of the URL or response that the library quotes."""
    import aiohttp

    if isinstance(error, aiohttp.InvalidURL):
        return "the URL is malformed"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not answer in HTTP"
    return str(error) or type(error).__name__


class _LoopSession:
    """A session and the generator that closes it: loops close their generators first (PEP 525)."""

    def __init__(self, limits: Limits) -> None:
        import aiohttp

        self.deadlines = CallDeadlines(limits.total)
        timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect, sock_read=limits.read)
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            auto_decompress=False,  # it has no limit
            headers={"accept-encoding": ACCEPTED},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.lifetime = self._live()

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.deadlines.close()
            await self.http.close()


class EventSplitter:
    """Splits a byte stream, in chunks of any size, into the data of server-sent events.

    Format: WHATWG HTML, "Server-sent events"; fields other than `data` are ignored.
    """

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []

    def feed(self, part: bytes) -> list[bytes]:
        """Return the data of each event that `part` completes."""
        if b"\n" not in part:
            self._rest.append(part)  # joined only once: a long line may have thousands of parts
            return []
        *lines, rest = b"".join((*self._rest, part)).split(b"\n")
        self._rest = [rest]
        events = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
        return events
