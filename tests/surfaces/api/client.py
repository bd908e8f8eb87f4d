"""An application in this process, called as ASGI servers do: all is real but the socket."""

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
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """The application, its services, and its keys by name."""

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
        """Send a request.

        `key` is a name in `keys` or a text, `body` a JSON value or raw bytes, `pairs` more headers.
        """
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        all_headers = {"host": "127.0.0.1", "content-length": str(len(raw))}
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            all_headers.setdefault("content-type", "application/json")
        if key is not None:
            all_headers["authorization"] = f"Bearer {self.keys.get(key, key)}"
        messages: list[Any] = []
        received = iter([{"type": "http.request", "body": raw, "more_body": False}])

        async def receive() -> Any:
            try:
                return next(received)
            except StopIteration:
                await asyncio.Event().wait()

        async def send(message: Any) -> None:
            messages.append(message)

        scope = _scope("http", path, all_headers, method=method)
        scope["headers"] += pairs
        await self.app(scope, receive, send)
        start, parts = messages[0], [message.get("body", b"") for message in messages[1:]]
        response_headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answered(start["status"], response_headers, b"".join(parts))

    async def graphql(self, query: str, *, key: str | None = None, **variables: Any) -> Any:
        """Send a GraphQL request and return the body of the response."""
        answer = await self.ask(
            "POST", "/graphql", key=key, body={"query": query, "variables": variables}
        )
        assert answer.status == 200, answer.body
        return answer.json

    async def perform(self, action: str, input: object) -> Any:
        """Perform an action as the local actor."""
        definition = next(item for item in DOMAIN.actions if item.name == action)
        return await self.services.operations.perform(definition, input)

    async def give_key(self, name: str, *scopes: str, **values: Any) -> str:
        """Create a key, and store its text by its name."""
        issued = await self.perform(
            "create_api_key", CreateApiKey(name=name, scopes=list(scopes), **values)
        )
        self.keys[name] = issued.key
        return issued.key

    async def give_program(self, name: str = "n", **values: Any) -> Any:
        """Create a program on the mock backend."""
        request = CreateProgram(name=name, signature="q -> n: int", backend="mock", **values)
        return await create_program(self.services.operations, request)

    async def give_workspace(self, name: str) -> None:
        """Create a workspace."""
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
    """A job engine that accepts every job and runs none."""

    async def enqueue(self, resource: Resource[Any], job_id: UUID) -> None:
        """Do nothing."""

    async def stop(self, resource: Resource[Any], job_id: UUID) -> None:
        """Do nothing."""


class Socket:
    """One websocket of a client."""

    def __init__(self, server: Server, **headers: str) -> None:
        self._to: asyncio.Queue[Any] = asyncio.Queue()
        self._from: asyncio.Queue[Any] = asyncio.Queue()
        scope = _scope("websocket", "/graphql", {"host": "127.0.0.1", **headers})
        self._to.put_nowait({"type": "websocket.connect"})
        self.gone = asyncio.Event()
        self.task = asyncio.ensure_future(
            server.app(scope, lambda: _receive(self._to, self.gone), self._from.put)
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
        """Disconnect, and wait until the server has noticed."""
        self.go()
        await self.task

    def go(self) -> None:
        """Disconnect; `gone` is set when the server receives that."""
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
    """Yield a running application with a database in `folder`."""
    all_settings = Settings(state_dir=folder / "state", secret_key=Secret("k" * 40), **settings)
    async with open_services(all_settings, clock=clock, code=code) as services:

        @contextlib.asynccontextmanager
        async def open_services_once() -> AsyncIterator[Services]:
            yield services

        dependencies = services.operations.dependencies.with_services({JobEngine: IdleJobs()})
        services = dataclasses.replace(services, operations=Operations(dependencies))
        app = application(open_services_once, config, clock=clock)
        async with app.router.lifespan_context(app):
            yield Server(app, services)


class Call:
    """One POST whose response is read in parts, by a client that may disconnect before its end."""

    def __init__(
        self, server: Server, path: str, body: Any, *, key: str | None = None, **headers: str
    ) -> None:
        self._parts: asyncio.Queue[Any] = asyncio.Queue()
        self._to: asyncio.Queue[Any] = asyncio.Queue()
        all_headers = {"host": "127.0.0.1", "content-type": "application/json", **headers}
        if key is not None:
            all_headers["authorization"] = f"Bearer {server.keys.get(key, key)}"
        self._to.put_nowait(
            {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        )
        scope = _scope("http", path, all_headers, method="POST")
        self.gone = asyncio.Event()
        self.task = asyncio.ensure_future(
            server.app(scope, lambda: _receive(self._to, self.gone), self._parts.put)
        )

    async def part(self) -> Any:
        """Return the next event of the server."""
        return await self._parts.get()

    def go(self) -> None:
        """Disconnect; `gone` is set when the server receives that."""
        self._to.put_nowait({"type": "http.disconnect"})


async def _receive(events: asyncio.Queue[Any], disconnect: asyncio.Event) -> Any:
    event = await events.get()
    if event["type"].endswith(".disconnect"):
        disconnect.set()
    return event
