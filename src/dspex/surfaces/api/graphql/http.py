"""GraphQL over HTTP: a request and its response, or a subscription as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from dspex.language.records.canonical import json_bytes
from dspex.operations.executions.executor import Executor
from dspex.operations.framework.access import Actor
from dspex.surfaces.api.connection_watch import (
    ConnectionWatch,
    wait_for_disconnect,
    watch_client,
)
from dspex.surfaces.api.gateway import (
    Authenticator,
    CallerSession,
    Unauthenticated,
    actor_of,
    denial_body,
    session_of,
)
from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.engine import Engine, GraphQLRequest, check_texts
from dspex.surfaces.api.json_limits import check_values
from dspex.surfaces.api.requests import as_invalid_error, decode_json, read_body
from dspex.surfaces.api.responses import RequestError, send_json

KEEP_ALIVE_S = 15.0
_decode = msgspec.json.Decoder(GraphQLRequest).decode


class HttpEndpoint:
    """`POST /graphql`, and `POST /graphql/stream` for subscriptions.

    A comment every 15 seconds keeps the connection of a subscription open.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        make_context: Callable[[Actor, ConnectionWatch], GraphQLContext],
        authenticator: Authenticator,
    ) -> None:
        """Take the engine, the factory of contexts, and what checks keys during a stream."""
        self._engine = engine
        self._make_context = make_context
        self._authenticator = authenticator
        self._config = authenticator.config

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a response with GraphQL errors has the status 200."""
        request = parse_request(await read_body(scope, receive, limit=self._config.body_bytes))
        with watch_client(receive) as watch:
            response = await self._engine.run(request, self._make_context(actor_of(scope), watch))
        await send_json(send, response)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send `next` events until the subscription (then `complete`), the client or its key ends.

        If the server stops, the body ends without `complete`: the client continues elsewhere, after
        its last cursor.
        """
        async with asyncio.timeout(self._config.timeout_s):
            request = parse_request(await read_body(scope, receive, limit=self._config.body_bytes))
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        caller, watch = session_of(self._authenticator, scope), ConnectionWatch()
        runs = self._authenticator.services().operations.services[Executor].runs
        async with asyncio.TaskGroup() as group:
            watch.task = group.create_task(
                self._write(request, send, caller=caller, watch=watch, actor=actor_of(scope))
            )
            disconnect = group.create_task(wait_for_disconnect(receive))
            key_end = group.create_task(caller.wait_for_end(actor_of(scope)))
            server_stop = group.create_task(runs.is_over.wait())
            ends = (disconnect, key_end, server_stop)
            finished, _ = await asyncio.wait(
                {watch.task, *ends}, return_when=asyncio.FIRST_COMPLETED
            )
            watch.disconnect()
            for task in ends:
                task.cancel()
            if watch.task in finished:
                return
            await asyncio.wait({watch.task})
            if key_end in finished:
                await _finish(send, key_end.result())
            elif server_stop in finished:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(
        self,
        request: GraphQLRequest,
        send: Send,
        *,
        caller: CallerSession,
        watch: ConnectionWatch,
        actor: Actor,
    ) -> None:
        responses = self._engine.stream(
            request,
            self._make_context(actor, watch),
            check=lambda: caller.check_patiently(actor),
            timeout_s=self._config.timeout_s,
        )
        denial: Unauthenticated | None = None
        try:
            async with aclosing(responses) as stream:  # type: ignore[type-var]
                async for block in _blocks(stream):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        except Unauthenticated as error:
            denial = error
        await _finish(send, denial)


async def _finish(send: Send, denial: Unauthenticated | None) -> None:
    """End a stream, with an error if the key is the reason."""
    event = b"" if denial is None else _event({"data": None, "errors": [denial_body(denial)]})
    body = event + b"event: complete\ndata:\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _event(response: dict[str, Any]) -> bytes:
    return b"event: next\ndata: " + json_bytes(response) + b"\n\n"


async def _blocks(responses: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Yield each response as an event, and a comment after each quiet period."""
    upcoming: asyncio.Task[dict[str, Any]] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_next(responses))
            finished, _ = await asyncio.wait({upcoming}, timeout=KEEP_ALIVE_S)
            if not finished:
                yield b":\n\n"
                continue
            try:
                response = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield _event(response)
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})


async def _next(responses: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return await anext(responses)


def parse_request(body: bytes) -> GraphQLRequest:
    """Return the GraphQL request in a body.

    Raises:
        RequestError: the body is not a JSON object with a text `query`.
        InvalidError: a text contains a character that databases cannot store.
    """
    check_values(body)
    try:
        request = _decode(body)
    except msgspec.ValidationError as error:
        message = as_invalid_error(error, decode_json(body), GraphQLRequest).message
        raise RequestError(message, status=400) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode_json(body)
        raise
    if b"u0000" in body:
        check_texts(request)
    return request
