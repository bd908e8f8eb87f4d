"""A running application in this process, asked as ASGI servers ask: no socket, the real everything else."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from starlette.applications import Starlette

from dspex.bootstrap import Services, open_services
from dspex.clock import Clock
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.resource import Resource
from dspex.operations.jobs.job_engine import JobEngine
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.actions import CreateApiKey, CreateWorkspace
from dspex.settings import Secret, Settings
from dspex.surfaces.api import ServerConfig, application

GUARDED = ServerConfig(needs_key=True)


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """The application, its services, and the keys made so far by name."""

    app: Starlette
    services: Services
    keys: dict[str, str] = field(default_factory=dict)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Any = None,
        pairs: Sequence[tuple[bytes, bytes]] = (),
        **headers: str,
    ) -> Answered:
        """Ask once; `key` is a name in `keys` or a text, `body` a JSON value or raw bytes, `pairs` more headers."""
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        given = {"host": "127.0.0.1", "content-length": str(len(raw))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given.setdefault("content-type", "application/json")
        if key is not None:
            given["authorization"] = f"Bearer {self.keys.get(key, key)}"
        sent: list[Any] = []
        received = iter([{"type": "http.request", "body": raw, "more_body": False}])

        async def receive() -> Any:
            try:
                return next(received)
            except StopIteration:
                await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = _scope("http", path, given, method=method)
        scope["headers"] += pairs
        await self.app(scope, receive, send)
        start, parts = sent[0], [message.get("body", b"") for message in sent[1:]]
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answered(start["status"], found, b"".join(parts))

    async def graphql(self, query: str, *, key: str | None = None, **variables: Any) -> Any:
        """Ask by GraphQL and return the answer's body."""
        answer = await self.ask(
            "POST", "/graphql", key=key, body={"query": query, "variables": variables}
        )
        assert answer.status == 200, answer.body
        return answer.json

    async def perform(self, action: str, given: object) -> Any:
        """Carry out an action as the local actor."""
        found = next(item for item in DOMAIN.actions if item.name == action)
        return await self.services.operations.perform(found, given)

    async def give_key(self, name: str, *scopes: str, **given: Any) -> str:
        """Make a key and keep its text under its name."""
        issued = await self.perform(
            "create_api_key", CreateApiKey(name=name, scopes=list(scopes), **given)
        )
        self.keys[name] = issued.key
        return issued.key

    async def give_program(self, name: str = "n", **given: Any) -> Any:
        """Make a program on the mock backend."""
        asked = CreateProgram(name=name, signature="q -> n: int", backend="mock", **given)
        return await create_program(self.services.operations, asked)

    async def give_workspace(self, name: str) -> None:
        """Make a workspace."""
        await self.perform("create_workspace", CreateWorkspace(name=name))


def _scope(kind: str, path: str, headers: dict[str, str], *, method: str = "GET") -> dict[str, Any]:
    path, _, query = path.partition("?")
    return {
        "type": kind,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "subprotocols": ["graphql-transport-ws"],
        "asgi": {"version": "3.0"},
    }


class IdleJobs:
    """A job engine that takes note of everything and runs nothing."""

    async def enqueue(self, resource: Resource[Any], job_id: UUID) -> None:
        """Take note."""

    async def stop(self, resource: Resource[Any], job_id: UUID) -> None:
        """Take note."""


class Socket:
    """One websocket of a client."""

    def __init__(self, server: Server, **headers: str) -> None:
        self._to: asyncio.Queue[Any] = asyncio.Queue()
        self._from: asyncio.Queue[Any] = asyncio.Queue()
        scope = _scope("websocket", "/graphql", {"host": "127.0.0.1", **headers})
        self._to.put_nowait({"type": "websocket.connect"})
        self.gone = asyncio.Event()
        self.task = asyncio.ensure_future(
            server.app(scope, lambda: _told(self._to, self.gone), self._from.put)
        )

    async def event(self) -> Any:
        """Return the next event of the server."""
        return await self._from.get()

    async def message(self) -> Any:
        """Return the next message of the protocol."""
        event = await self.event()
        assert event["type"] == "websocket.send", event
        return json.loads(event["text"])

    def send(self, **message: Any) -> None:
        """Send a message of the protocol."""
        self._to.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    async def close(self) -> None:
        """Go, and wait until the server noticed."""
        self.go()
        await self.task

    def go(self) -> None:
        """Go; `gone` is set when the server was told."""
        self._to.put_nowait({"type": "websocket.disconnect", "code": 1000})


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    config: ServerConfig = GUARDED,
    *,
    clock: Clock | None = None,
    code: CodeRoot | None = None,
    **settings: Any,
) -> AsyncIterator[Server]:
    """Give a running application over a database in `folder`."""
    chosen = Settings(state_dir=folder / "state", secret_key=Secret("k" * 40), **settings)
    async with open_services(chosen, clock=clock, code=code) as services:

        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[Services]:
            yield services

        dependencies = services.operations.dependencies.with_services({JobEngine: IdleJobs()})
        services = dataclasses.replace(services, operations=Operations(dependencies))
        app = application(opened, config, clock=clock)
        async with app.router.lifespan_context(app):
            yield Server(app, services)


class Call:
    """One POST whose answer is read as it comes, by a client that may leave before its end."""

    def __init__(
        self, server: Server, path: str, body: Any, *, key: str | None = None, **headers: str
    ) -> None:
        self._parts: asyncio.Queue[Any] = asyncio.Queue()
        self._to: asyncio.Queue[Any] = asyncio.Queue()
        given = {"host": "127.0.0.1", "content-type": "application/json", **headers}
        if key is not None:
            given["authorization"] = f"Bearer {server.keys.get(key, key)}"
        self._to.put_nowait(
            {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        )
        scope = _scope("http", path, given, method="POST")
        self.gone = asyncio.Event()
        self.task = asyncio.ensure_future(
            server.app(scope, lambda: _told(self._to, self.gone), self._parts.put)
        )

    async def part(self) -> Any:
        """Return the next event of the server."""
        return await self._parts.get()

    def go(self) -> None:
        """Go; `gone` is set when the server was told."""
        self._to.put_nowait({"type": "http.disconnect"})


async def _told(events: asyncio.Queue[Any], gone: asyncio.Event) -> Any:
    event = await events.get()
    if event["type"].endswith(".disconnect"):
        gone.set()
    return event
