"""GraphQL over HTTP: one request and its answer, or a subscription as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from dspex.errors import InvalidError
from dspex.surfaces.api.answers import read_body, send_json
from dspex.surfaces.api.decoding import decoded, from_msgspec
from dspex.surfaces.api.graphql.engine import Asked, Engine, check_texts
from dspex.surfaces.api.graphql.request import Request

KEEP_ALIVE_S = 15.0
_decode = msgspec.json.Decoder(Asked).decode


class Endpoint:
    """`POST /graphql`, and `POST /graphql/stream` for subscriptions (a comment every 15 s keeps it open)."""

    def __init__(self, engine: Engine, *, context: Callable[[Scope], Request], body_bytes: int) -> None:
        """Take what runs documents, and what makes the context of a request."""
        self._engine = engine
        self._context = context
        self._body_bytes = body_bytes

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; GraphQL's own errors are in an answer with status 200."""
        asked = asked_from(await read_body(scope, receive, limit=self._body_bytes))
        await send_json(send, await self._engine.run(asked, self._context(scope)))

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send `next` events until the subscription ends (then `complete`) or the client goes."""
        asked = asked_from(await read_body(scope, receive, limit=self._body_bytes))
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(self._engine.stream(asked, self._context(scope)), send))
            reader = group.create_task(_gone(receive))
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
            writer.cancel()
            reader.cancel()

    async def _write(self, answers: AsyncIterator[dict[str, Any]], send: Send) -> None:
        async with aclosing(answers) as found:  # type: ignore[type-var]  # an async generator
            async for block in _blocks(found):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"event: complete\ndata:\n\n", "more_body": False})


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
            yield b"event: next\ndata: " + msgspec.json.encode(answer) + b"\n\n"
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})


async def _next(answers: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return await anext(answers)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def asked_from(body: bytes) -> Asked:
    """Return the GraphQL request in a body.

    Raises:
        InvalidError: it is no JSON object with a text `query`.
    """
    try:
        asked = _decode(body)
    except msgspec.ValidationError as error:
        raise InvalidError(from_msgspec(error).message, http_status=400) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded(body)
        raise
    if b"u0000" in body:
        check_texts(asked)
    return asked
