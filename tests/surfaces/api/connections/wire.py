"""A guarded server of a small application on a loopback socket, and raw connections to it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from dspex.surfaces.api.connections import ConnectionLimits, make_server

SHORT = ConnectionLimits(head_s=0.3, body_s=0.5, idle_s=0.5, stall_s=0.5, linger_s=0.3, tick_s=0.05)
PATIENT = ConnectionLimits(tick_s=0.05)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body, and accept websockets.

    At /large, the answer has many bytes; at /early, it comes at once.
    """
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event.get("text") or ""})
        return
    length = 0
    if scope["path"] != "/early":
        while True:
            message = await receive()
            length += len(message.get("body", b""))
            if message["type"] == "http.disconnect":
                return
            if not message.get("more_body"):
                break
    body = (
        b"x" * 30_000_000
        if scope["path"] == "/large"
        else b'{"length": %d, "client": "%s"}'
        % (
            length,
            scope["client"][0].encode(),
        )
    )
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


@dataclass
class Client:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and the body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(
            int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")
        )
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def ask(self, data: bytes = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") -> tuple[int, bytes]:
        """Send bytes and return the answer."""
        self.writer.write(data)
        return await self.answer()

    async def flood(self, data: bytes, *, most: int) -> int:
        """Send `data` again and again until the server ends the connection.

        Return how many bytes it took.
        """
        sent_count = 0
        try:
            while sent_count < most:
                self.writer.write(data)
                await self.writer.drain()
                sent_count += len(data)
        except OSError:
            pass
        return sent_count

    async def is_ended(self) -> bool:
        """Wait until the server has ended the connection."""
        try:
            while await self.reader.read(1 << 20):
                pass
        except OSError:
            pass
        return True

    async def close(self) -> None:
        """Go."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


@dataclass
class Wire:
    """A running server."""

    server: uvicorn.Server
    port: int
    clients: list[Client]

    async def connect(self, **options: Any) -> Client:
        """Open one more connection."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, **options))
        self.clients.append(client)
        return client


@asynccontextmanager
async def wired(limits: ConnectionLimits = PATIENT, app: Any = echo) -> AsyncIterator[Wire]:
    """Serve for a block."""
    server = make_server(app, limits, lifespan=False)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=[listener])
    wire = Wire(server, listener.getsockname()[1], [])
    try:
        yield wire
    finally:
        for client in wire.clients:
            await client.close()
        await server.shutdown(sockets=[listener])
