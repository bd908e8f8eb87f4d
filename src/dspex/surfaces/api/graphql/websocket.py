"""GraphQL over a websocket, by the protocol graphql-transport-ws."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from dspex.errors import DspexError
from dspex.operations.resources import Actor
from dspex.surfaces.api.graphql.engine import Asked, Engine, check_texts
from dspex.surfaces.api.graphql.request import Request

PROTOCOL: Final = "graphql-transport-ws"
INIT_S: Final = 10.0
MAX_AT_ONCE: Final = 50
MAX_MESSAGE: Final = 1024 * 1024


class Message(msgspec.Struct, omit_defaults=True):
    """One message of the protocol, either way."""

    type: str
    id: str | None = None
    payload: Any = None


class _Close(Exception):  # noqa: N818  # an end, not a fault
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Endpoint:
    """Answers websockets. A key comes with the upgrade, or as `authorization` in the payload of `connection_init`."""

    def __init__(
        self,
        engine: Engine,
        *,
        context: Callable[[Actor], Request],
        holder: Callable[[object], Awaitable[Actor | None]],
    ) -> None:
        """Take what runs documents, what makes a context, and who holds a key."""
        self._engine = engine
        self._context = context
        self._holder = holder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket to its end."""
        await receive()  # websocket.connect
        if PROTOCOL not in scope["subprotocols"]:
            await send({"type": "websocket.close", "code": 4406, "reason": "Subprotocol not acceptable"})
            return
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        try:
            async with asyncio.TaskGroup() as group:
                await self._serve(_Connection(self._engine, receive=receive, send=send, group=group), scope["actor"])
        except* OSError:
            pass  # the client is gone
        except* _Close as ends:
            end = ends.exceptions[0]
            if isinstance(end, _Close) and end.code:
                await send({"type": "websocket.close", "code": end.code, "reason": end.reason})
        except* TimeoutError:
            await send({"type": "websocket.close", "code": 4408, "reason": "Connection initialisation timeout"})

    async def _serve(self, connection: "_Connection", given: Actor | None) -> None:
        try:
            async with asyncio.timeout(INIT_S):
                actor = await self._first(connection, given)
            connection.context = lambda: self._context(actor)
            await connection.serve()
        finally:
            connection.stop()

    async def _first(self, connection: "_Connection", actor: Actor | None) -> Actor:
        message = await connection.receive()
        while message.type == "ping":
            await connection.send(Message("pong"))
            message = await connection.receive()
        if message.type != "connection_init":
            raise _Close(4401, "Unauthorized")
        if actor is None:
            payload = message.payload if isinstance(message.payload, dict) else {}
            given = {str(name).lower(): value for name, value in payload.items()}
            try:
                actor = await self._holder(given.get("authorization"))
            except DspexError:
                raise _Close(4503, "Service unavailable") from None
        if actor is None:
            raise _Close(4403, "Forbidden")
        await connection.send(Message("connection_ack"))
        return actor


class _Connection:
    """One open websocket and what runs on it."""

    context: Callable[[], Request]

    def __init__(self, engine: Engine, *, receive: Receive, send: Send, group: asyncio.TaskGroup) -> None:
        self._engine = engine
        self._receive = receive
        self._send = send
        self._group = group
        self._running: dict[str, asyncio.Task[None]] = {}
        self._decode = msgspec.json.Decoder(Message).decode

    async def receive(self) -> Message:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise _Close(0, "")
        text = event.get("text")
        if text is None or len(text) > MAX_MESSAGE:
            raise _Close(4400, "A message is a text of at most 1 MiB")
        try:
            return self._decode(text)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            raise _Close(4400, "Invalid message") from None

    async def send(self, message: Message) -> None:
        await self._send({"type": "websocket.send", "text": msgspec.json.encode(message).decode()})

    async def serve(self) -> None:
        while True:
            message = await self.receive()
            if message.type == "ping":
                await self.send(Message("pong"))
            elif message.type == "subscribe":
                await self._subscribe(message)
            elif message.type == "complete":
                task = self._running.pop(message.id or "", None)
                if task is not None:
                    task.cancel()
            elif message.type == "connection_init":
                raise _Close(4429, "Too many initialisation requests")
            elif message.type != "pong":
                raise _Close(4400, "Invalid message")

    def stop(self) -> None:
        for task in self._running.values():
            task.cancel()

    async def _subscribe(self, message: Message) -> None:
        try:
            asked = msgspec.convert(message.payload, Asked)
            check_texts(asked)
        except (msgspec.ValidationError, DspexError):
            raise _Close(4400, "Invalid message") from None
        if not message.id:
            raise _Close(4400, "Invalid message")
        if message.id in self._running:
            raise _Close(4409, "Subscriber already exists")
        if len(self._running) >= MAX_AT_ONCE:
            await self.send(Message("error", message.id, [{"message": f"at most {MAX_AT_ONCE} at once"}]))
            return
        self._running[message.id] = self._group.create_task(self._run(message.id, asked))

    async def _run(self, key: str, asked: Asked) -> None:
        async with aclosing(self._engine.stream(asked, self.context())) as answers:  # type: ignore[type-var]
            async for answer in answers:
                if answer.get("data") is None and "errors" in answer:
                    self._running.pop(key, None)
                    await self.send(Message("error", key, answer["errors"]))
                    return
                await self.send(Message("next", key, answer))
        self._running.pop(key, None)
        await self.send(Message("complete", key))
