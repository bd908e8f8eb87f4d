"""GraphQL over a websocket, by the protocol graphql-transport-ws."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from dspex.errors import DspexError, StorageError
from dspex.language.records.canonical import json_bytes
from dspex.operations.framework.access import Actor
from dspex.surfaces.api.connection_watch import ConnectionWatch
from dspex.surfaces.api.gateway import CallerSession, RateLimited, Unauthenticated, denial_body
from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.engine import Engine, GraphQLRequest, check_texts
from dspex.surfaces.api.json_limits import check_values
from dspex.surfaces.api.responses import extensions_of, public_message

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
    """Answers websockets. A key comes with the upgrade, or as `authorization` in the payload of `connection_init`.

    It is asked for again at each operation and each event, and twice a second; when it ends, so
    does the websocket.
    """

    def __init__(
        self, engine: Engine, *, context: Callable[[Actor, ConnectionWatch], GraphQLContext]
    ) -> None:
        """Take what runs documents, and what makes a context."""
        self._engine = engine
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket to its end."""
        await receive()  # websocket.connect
        if PROTOCOL not in scope["subprotocols"]:
            await send(
                {"type": "websocket.close", "code": 4406, "reason": "Subprotocol not acceptable"}
            )
            return
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        wire = _Wire(receive, send)
        try:
            async with asyncio.timeout(INIT_S):
                actor = await _first(wire, scope["caller"])
        except TimeoutError:
            await wire.close(_Close(4408, "Connection initialisation timeout"))
        except _Close as end:
            await wire.close(end)
        else:
            async with asyncio.TaskGroup() as group:
                connection = _Connection(
                    self._engine, wire=wire, group=group, caller=scope["caller"], actor=actor
                )
                connection.context = self._context
                await connection.live()


async def _first(wire: "_Wire", caller: CallerSession) -> Actor:
    message = await wire.receive()
    while message.type == "ping":
        await wire.send(Message("pong"))
        message = await wire.receive()
    if message.type != "connection_init":
        raise _Close(4401, "Unauthorized")
    if caller.text is None:
        payload = message.payload if isinstance(message.payload, dict) else {}
        given = {str(name).lower(): value for name, value in payload.items()}.get("authorization")
        caller.text = given.removeprefix("Bearer ").strip() if isinstance(given, str) else None
    try:
        actor = await caller.actor()
        with caller.counted():
            await wire.send(Message("connection_ack"))
    except (Unauthenticated, RateLimited) as denied:
        raise _Close(4403, f"Forbidden: {denied.message}") from None
    except DspexError:
        raise _Close(4503, "Service unavailable") from None
    return actor


class _Wire:
    """The messages of one websocket. After its end, what is sent is dropped."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_closed = False
        self._decode = msgspec.json.Decoder(Message).decode

    async def receive(self) -> Message:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise _Close(0, "")
        text = event.get("text")
        if text is None or len(text) > MAX_MESSAGE:
            raise _Close(4400, "A message is a text of at most 1 MiB")
        try:
            check_values(text.encode())
            return self._decode(text)
        except (DspexError, msgspec.MsgspecError, RecursionError, UnicodeError):
            raise _Close(4400, "Invalid message") from None

    async def send(self, message: Message) -> None:
        await self._sent({"type": "websocket.send", "text": json_bytes(message).decode()})

    async def close(self, end: _Close) -> None:
        if end.code:
            await self._sent({"type": "websocket.close", "code": end.code, "reason": end.reason})
        self._is_closed = True

    async def _sent(self, event: dict[str, Any]) -> None:
        if self._is_closed:
            return
        try:
            await self._send(event)
        except OSError:
            self._is_closed = True  # the client is gone; its end is received, too


class _Connection:
    """One open websocket and what runs on it."""

    context: Callable[[Actor, ConnectionWatch], GraphQLContext]

    def __init__(
        self,
        engine: Engine,
        *,
        wire: _Wire,
        group: asyncio.TaskGroup,
        caller: CallerSession,
        actor: Actor,
    ) -> None:
        self._engine = engine
        self._wire = wire
        self._group = group
        self._caller = caller
        self._actor = actor
        self._running: dict[str, ConnectionWatch] = {}
        self._end: asyncio.Future[_Close] = asyncio.get_running_loop().create_future()

    async def live(self) -> None:
        """Serve until the client or the key ends; operations that are kept are finished after that."""
        watching = [self._group.create_task(self._read()), self._group.create_task(self._watch())]
        try:
            await self._wire.close(await self._end)
        finally:
            for task in watching:
                task.cancel()
            for watch in list(self._running.values()):
                watch.leave()

    def _ended(self, end: _Close) -> None:
        if not self._end.done():
            self._end.set_result(end)

    async def _watch(self) -> None:
        denied = await self._caller.ends(self._actor)
        self._ended(_Close(4403, f"Forbidden: {denied.message}"))

    async def _read(self) -> None:
        try:
            while True:
                await self._take(await self._wire.receive())
        except _Close as end:
            self._ended(end)

    async def _take(self, message: Message) -> None:
        if message.type == "ping":
            await self._wire.send(Message("pong"))
        elif message.type == "subscribe":
            await self._subscribe(message)
        elif message.type == "complete":
            watch = self._running.pop(message.id or "", None)
            if watch is not None:
                watch.leave()
        elif message.type == "connection_init":
            raise _Close(4429, "Too many initialisation requests")
        elif message.type != "pong":
            raise _Close(4400, "Invalid message")

    async def _subscribe(self, message: Message) -> None:
        try:
            asked = msgspec.convert(message.payload, GraphQLRequest)
            check_texts(asked)
        except (msgspec.ValidationError, DspexError):
            raise _Close(4400, "Invalid message") from None
        if not message.id:
            raise _Close(4400, "Invalid message")
        if message.id in self._running:
            raise _Close(4409, "Subscriber already exists")
        if len(self._running) >= MAX_AT_ONCE:
            await self._wire.send(
                Message("error", message.id, [{"message": f"at most {MAX_AT_ONCE} at once"}])
            )
            return
        watch = self._running[message.id] = ConnectionWatch()
        watch.task = self._group.create_task(self._run(message.id, asked, watch))

    async def _run(self, key: str, asked: GraphQLRequest, watch: ConnectionWatch) -> None:
        try:
            await self._caller.check(self._actor)
            with self._caller.counted():
                last = await self._answer(key, asked, watch)
        except RateLimited as refused:
            last = Message("error", key, [denial_body(refused)])
        except StorageError as error:
            last = Message(
                "error",
                key,
                [{"message": public_message(error), "extensions": extensions_of(error)}],
            )
        except Unauthenticated as denied:
            self._ended(_Close(4403, f"Forbidden: {denied.message}"))
            return
        finally:
            if self._running.get(key) is watch:
                del self._running[key]
        await self._wire.send(last)

    async def _answer(self, key: str, asked: GraphQLRequest, watch: ConnectionWatch) -> Message:
        """Send the answers, and return the last message."""
        context, limit = (
            self.context(self._actor, watch),
            self._caller.authenticator.config.timeout_s,
        )
        found = self._engine.stream(
            asked, context, check=lambda: self._caller.stays(self._actor), within=limit
        )
        async with aclosing(found) as answers:  # type: ignore[type-var]  # an async generator
            async for answer in answers:
                if answer.get("data") is None and "errors" in answer:
                    return Message("error", key, answer["errors"])
                await self._wire.send(Message("next", key, answer))
        return Message("complete", key)
