"""GraphQL over HTTP: one request and its answer, or a subscription as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from dspex.errors import InvalidError
from dspex.language.records.canonical import json_bytes
from dspex.operations.executions.executor import Executor
from dspex.operations.framework.access import Actor
from dspex.surfaces.api.connection_watch import ConnectionWatch, watch_client
from dspex.surfaces.api.gateway import (
    Authenticator,
    CallerSession,
    Unauthenticated,
    actor_of,
    caller_of,
    denial_body,
)
from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.engine import Engine, GraphQLRequest, check_texts
from dspex.surfaces.api.json_limits import check_values
from dspex.surfaces.api.requests import as_invalid_error, decode_json
from dspex.surfaces.api.responses import read_body, send_json

KEEP_ALIVE_S = 15.0
_decode = msgspec.json.Decoder(GraphQLRequest).decode


class Endpoint:
    """`POST /graphql`, and `POST /graphql/stream` for subscriptions (a comment every 15 s keeps it open)."""

    def __init__(
        self,
        engine: Engine,
        *,
        context: Callable[[Actor, ConnectionWatch], GraphQLContext],
        authenticator: Authenticator,
    ) -> None:
        """Take what runs documents, what makes the context of a request, and what asks for keys again."""
        self._engine = engine
        self._context = context
        self._authenticator = authenticator
        self._body_bytes = authenticator.config.body_bytes

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; GraphQL's own errors are in an answer with status 200."""
        asked = parse_request(await read_body(scope, receive, limit=self._body_bytes))
        with watch_client(receive) as watch:
            answer = await self._engine.run(asked, self._context(actor_of(scope), watch))
        await send_json(send, answer)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send `next` events until the subscription ends (then `complete`), the client goes, or its key ends.

        Where the server stops, the body ends without `complete`: the client goes on elsewhere,
        behind its last cursor.
        """
        async with asyncio.timeout(self._authenticator.config.timeout_s):
            asked = parse_request(await read_body(scope, receive, limit=self._body_bytes))
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        caller, watch = caller_of(self._authenticator, scope), ConnectionWatch()
        async with asyncio.TaskGroup() as group:
            watch.task = group.create_task(
                self._write(asked, send, caller=caller, watch=watch, scope=scope)
            )
            reader = group.create_task(_gone(receive))
            watcher = group.create_task(caller.ends(actor_of(scope)))
            ending = group.create_task(
                self._authenticator.services().operations.services[Executor].runs.is_over.wait()
            )
            others = (reader, watcher, ending)
            done, _ = await asyncio.wait({watch.task, *others}, return_when=asyncio.FIRST_COMPLETED)
            watch.leave()
            for task in others:
                task.cancel()
            if watch.task in done:
                return
            await asyncio.wait({watch.task})
            if watcher in done:
                await _finish(send, watcher.result())
            elif ending in done:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(  # what an answer is made of
        self,
        asked: GraphQLRequest,
        send: Send,
        *,
        caller: CallerSession,
        watch: ConnectionWatch,
        scope: Scope,
    ) -> None:
        actor = actor_of(scope)
        context, limit = self._context(actor, watch), self._authenticator.config.timeout_s
        answers = self._engine.stream(
            asked, context, check=lambda: caller.stays(actor), within=limit
        )
        denied: Unauthenticated | None = None
        try:
            async with aclosing(answers) as found:  # type: ignore[type-var]  # an async generator
                async for block in _blocks(found):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        except Unauthenticated as error:
            denied = error
        await _finish(send, denied)


async def _finish(send: Send, denied: Unauthenticated | None) -> None:
    """End a stream, and say why where the key is the reason."""
    said = b"" if denied is None else _event({"data": None, "errors": [denial_body(denied)]})
    await send(
        {
            "type": "http.response.body",
            "body": said + b"event: complete\ndata:\n\n",
            "more_body": False,
        }
    )


def _event(answer: dict[str, Any]) -> bytes:
    return b"event: next\ndata: " + json_bytes(answer) + b"\n\n"


async def _blocks(answers: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Give each answer as an event, and a comment whenever there was none for a while."""
    upcoming: asyncio.Task[dict[str, Any]] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_next(answers))
            done, _ = await asyncio.wait({upcoming}, timeout=KEEP_ALIVE_S)
            if not done:
                yield b":\n\n"
                continue
            try:
                answer = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield _event(answer)
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})


async def _next(answers: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return await anext(answers)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def parse_request(body: bytes) -> GraphQLRequest:
    """Return the GraphQL request in a body.

    Raises:
        InvalidError: it is no JSON object with a text `query`.
    """
    check_values(body)
    try:
        asked = _decode(body)
    except msgspec.ValidationError as error:
        raise InvalidError(as_invalid_error(error).message, http_status=400) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode_json(body)
        raise
    if b"u0000" in body:
        check_texts(asked)
    return asked
