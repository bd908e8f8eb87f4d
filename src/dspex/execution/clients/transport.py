"""HTTP with one pooled session for each event loop, and errors of ours instead of the library's."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from dspex.errors import ModelTimeoutError, ModelUnavailableError

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (lower-case names) and whole body of one HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds to connect and seconds of silence that end a call, and the greatest body in bytes."""

    connect: float = 10.0
    read: float = 120.0
    body: int = 32 * 1024 * 1024


class Transport:
    """Posts bytes and returns the answer. Sessions live as long as their loop and are closed with it."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Take limits; no connection is made before the first call."""
        self.limits = limits or Limits()
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Held] = WeakKeyDictionary()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request.

        Raises:
            ModelTimeoutError: no connection, or no byte, within the limits.
            ModelUnavailableError: refused, reset, cut off, or an answer over the limit.
        """
        import aiohttp

        session = await self._session()
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                content = await self._read(response)
                return Answer(response.status, {key.lower(): value for key, value in response.headers.items()}, content)
        except TimeoutError as error:
            raise ModelTimeoutError(f"no answer from {url} within {self.limits.read:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            detail = str(error) or type(error).__name__
            raise ModelUnavailableError(
                f"cannot reach {url}: {detail}. Is the server running, and the URL right?"
            ) from error

    async def _read(self, response: "aiohttp.ClientResponse") -> bytes:
        if response.content_length is not None and response.content_length <= self.limits.body:
            return await response.read()
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self.limits.body:
                response.close()
                raise ModelUnavailableError(f"the answer from {response.url} is longer than {self.limits.body} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _session(self) -> "aiohttp.ClientSession":
        loop = asyncio.get_running_loop()
        held = self._sessions.get(loop)
        if held is None or held.session.closed:
            held = self._sessions[loop] = _Held(self.limits)
            await anext(held.life)
        return held.session

    async def aclose(self) -> None:
        """Close the running loop's session."""
        held = self._sessions.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.life.aclose()


class _Held:
    """A session and the generator that closes it: loops end their generators before they close (PEP 525)."""

    def __init__(self, limits: Limits) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect, sock_read=limits.read)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=timeout, auto_decompress=True
        )
        self.life = self._live()

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.session.close()
