"""An HTTP server on loopback with scripted answers and faults, for tests of clients."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import msgspec

Step = bytes | asyncio.Event | Literal["drop", "reset"]
Script = bytes | Sequence[Step]
_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A received request: method, path, headers (lower-case names) and body."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        """Return the body as JSON."""
        return msgspec.json.decode(self.body)


def http_answer(
    body: bytes | object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of an HTTP response; a body other than bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + content


class LoopbackServer:
    """Answers each request with the next script; the last script answers all later requests.

    A script is the bytes to send, or a list of steps: bytes to send, an event to wait for, "drop"
    (end of stream) or "reset" (of the connection). `asked` lists the requests, `open` counts
    connections. Use it in `async with`.
    """

    def __init__(self, *scripts: Script) -> None:
        """Take the scripts."""
        self.asked: list[ReceivedRequest] = []
        self.open = 0
        self.accepted = 0
        self.changed = asyncio.Condition()
        self._scripts = scripts
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def until_open(self, count: int) -> None:
        """Wait until exactly `count` connections are open."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.open == count)

    async def until_asked(self, count: int) -> None:
        """Wait until `count` requests have arrived."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.asked) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        await self._count(1)
        try:
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
            ):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()
            self.open -= 1
            with contextlib.suppress(asyncio.CancelledError):
                await self._count(0)

    async def _count(self, change: int) -> None:
        async with self.changed:
            self.open += change
            self.changed.notify_all()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append(ReceivedRequest(method, path, headers, body))
        await self._count(0)
        script = self._scripts[min(len(self.asked), len(self._scripts)) - 1]
        return await self._play(
            (script,) if isinstance(script, bytes) else script, reader, writer=writer
        )

    async def _play(
        self, steps: Iterable[Step], reader: asyncio.StreamReader, *, writer: asyncio.StreamWriter
    ) -> bool:
        for step in steps:
            if step == "drop":
                return False
            if step == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
                return False
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, asyncio.Event):
                await self._wait(step, reader)
        return True

    async def _wait(self, event: asyncio.Event, reader: asyncio.StreamReader) -> None:
        """Wait for the event, or for the client to hang up."""
        waiting = asyncio.ensure_future(event.wait())
        hung_up = asyncio.ensure_future(reader.read(1))
        finished, rest = await asyncio.wait({waiting, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if hung_up in finished and waiting not in finished:
            raise ConnectionError("the client hung up")
