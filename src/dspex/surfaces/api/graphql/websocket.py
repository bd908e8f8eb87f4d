"""GraphQL over a websocket, in the protocol graphql-transport-ws."""

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
MAX_OPERATIONS: Final = 50
MAX_MESSAGE: Final = 1024 * 1024


class ProtocolMessage(msgspec.Struct, omit_defaults=True):
    """One message of the protocol, in either direction."""

    type: str
    id: str | None = None
    payload: Any = None


class _Close(Exception):  # noqa: N818  # an end, not a fault
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class WebSocketEndpoint:
    """Serves websockets.

    A key comes with the upgrade, or as `authorization` in the payload of `connection_init`. It is
    checked again at each operation and event, and twice a second; when it ends, the websocket is
    closed.
    """

    def __init__(
        self, engine: Engine, *, make_context: Callable[[Actor, ConnectionWatch], GraphQLContext]
    ) -> None:
        """Take the engine and the factory of contexts."""
        self._engine = engine
        self._make_context = make_context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket to its end."""
        await receive()  # websocket.connect
        if PROTOCOL not in scope["subprotocols"]:
            await send(
                {"type": "websocket.close", "code": 4406, "reason": "Subprotocol not acceptable"}
            )
            return
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        channel = _MessageChannel(receive, send)
        try:
            async with asyncio.timeout(INIT_S):
                actor = await _initialize(channel, scope["caller"])
        except TimeoutError:
            await channel.close(_Close(4408, "Connection initialisation timeout"))
        except _Close as end:
            await channel.close(end)
        else:
            async with asyncio.TaskGroup() as group:
                session = _WebSocketSession(
                    self._engine,
                    self._make_context,
                    channel=channel,
                    group=group,
                    caller=scope["caller"],
                    actor=actor,
                )
                await session.run()


async def _initialize(channel: "_MessageChannel", caller: CallerSession) -> Actor:
    """Receive `connection_init`, acknowledge it, and return the actor."""
    message = await channel.receive()
    while message.type == "ping":
        await channel.send(ProtocolMessage("pong"))
        message = await channel.receive()
    if message.type != "connection_init":
        raise _Close(4401, "Unauthorized")
    if caller.key is None and isinstance(message.payload, dict):
        headers = {str(name).lower(): value for name, value in message.payload.items()}
        key = headers.get("authorization")
        caller.key = key.removeprefix("Bearer ").strip() if isinstance(key, str) else None
    try:
        actor = await caller.actor()
        with caller.count_call():
            await channel.send(ProtocolMessage("connection_ack"))
    except (Unauthenticated, RateLimited) as error:
        raise _Close(4403, f"Forbidden: {error.message}") from None
    except DspexError:
        raise _Close(4503, "Service unavailable") from None
    return actor


class _MessageChannel:
    """Receives and sends the messages of one websocket; messages after its end are dropped."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_closed = False
        self._decode = msgspec.json.Decoder(ProtocolMessage).decode

    async def receive(self) -> ProtocolMessage:
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

    async def send(self, message: ProtocolMessage) -> None:
        await self._send_event({"type": "websocket.send", "text": json_bytes(message).decode()})

    async def close(self, end: _Close) -> None:
        if end.code:
            await self._send_event(
                {"type": "websocket.close", "code": end.code, "reason": end.reason}
            )
        self._is_closed = True

    async def _send_event(self, event: dict[str, Any]) -> None:
        if self._is_closed:
            return
        try:
            await self._send(event)
        except OSError:
            self._is_closed = True  # the client is gone, which is also received


class _WebSocketSession:
    """One open websocket and its operations."""

    def __init__(
        self,
        engine: Engine,
        make_context: Callable[[Actor, ConnectionWatch], GraphQLContext],
        *,
        channel: _MessageChannel,
        group: asyncio.TaskGroup,
        caller: CallerSession,
        actor: Actor,
    ) -> None:
        self._engine = engine
        self._make_context = make_context
        self._channel = channel
        self._group = group
        self._caller = caller
        self._actor = actor
        self._running: dict[str, ConnectionWatch] = {}
        self._end: asyncio.Future[_Close] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until the client or its key ends; shielded operations are finished after that."""
        tasks = [
            self._group.create_task(self._read()),
            self._group.create_task(self._close_at_key_end()),
        ]
        try:
            await self._channel.close(await self._end)
        finally:
            for task in tasks:
                task.cancel()
            for watch in list(self._running.values()):
                watch.disconnect()

    def _close(self, end: _Close) -> None:
        if not self._end.done():
            self._end.set_result(end)

    async def _close_at_key_end(self) -> None:
        error = await self._caller.wait_for_end(self._actor)
        self._close(_Close(4403, f"Forbidden: {error.message}"))

    async def _read(self) -> None:
        try:
            while True:
                await self._handle(await self._channel.receive())
        except _Close as end:
            self._close(end)

    async def _handle(self, message: ProtocolMessage) -> None:
        if message.type == "ping":
            await self._channel.send(ProtocolMessage("pong"))
        elif message.type == "subscribe":
            await self._subscribe(message)
        elif message.type == "complete":
            watch = self._running.pop(message.id or "", None)
            if watch is not None:
                watch.disconnect()
        elif message.type == "connection_init":
            raise _Close(4429, "Too many initialisation requests")
        elif message.type != "pong":
            raise _Close(4400, "Invalid message")

    async def _subscribe(self, message: ProtocolMessage) -> None:
        try:
            request = msgspec.convert(message.payload, GraphQLRequest)
            check_texts(request)
        except (msgspec.ValidationError, DspexError):
            raise _Close(4400, "Invalid message") from None
        if not message.id:
            raise _Close(4400, "Invalid message")
        if message.id in self._running:
            raise _Close(4409, "Subscriber already exists")
        if len(self._running) >= MAX_OPERATIONS:
            await self._channel.send(
                ProtocolMessage(
                    "error", message.id, [{"message": f"at most {MAX_OPERATIONS} at once"}]
                )
            )
            return
        watch = self._running[message.id] = ConnectionWatch()
        watch.task = self._group.create_task(self._run_operation(message.id, request, watch))

    async def _run_operation(
        self, operation_id: str, request: GraphQLRequest, watch: ConnectionWatch
    ) -> None:
        try:
            await self._caller.check(self._actor)
            with self._caller.count_call():
                last = await self._send_responses(operation_id, request, watch)
        except RateLimited as error:
            last = ProtocolMessage("error", operation_id, [denial_body(error)])
        except StorageError as error:
            last = ProtocolMessage(
                "error",
                operation_id,
                [{"message": public_message(error), "extensions": extensions_of(error)}],
            )
        except Unauthenticated as error:
            self._close(_Close(4403, f"Forbidden: {error.message}"))
            return
        finally:
            if self._running.get(operation_id) is watch:
                del self._running[operation_id]
        await self._channel.send(last)

    async def _send_responses(
        self, operation_id: str, request: GraphQLRequest, watch: ConnectionWatch
    ) -> ProtocolMessage:
        """Send the responses to an operation, and return its last message."""
        stream = self._engine.stream(
            request,
            self._make_context(self._actor, watch),
            check=lambda: self._caller.check_patiently(self._actor),
            timeout_s=self._caller.authenticator.config.timeout_s,
        )
        async with aclosing(stream) as responses:  # type: ignore[type-var]  # an async generator
            async for response in responses:
                if response.get("data") is None and "errors" in response:
                    return ProtocolMessage("error", operation_id, response["errors"])
                await self._channel.send(ProtocolMessage("next", operation_id, response))
        return ProtocolMessage("complete", operation_id)
