"""`dspex serve`: the API."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_network
from itertools import count
from types import FrameType
from typing import Any

import click

from dspex.bootstrap import Services, attended, domain_of, open_services
from dspex.bootstrap.keeping import GRACE
from dspex.bootstrap.logs import set_up_logs
from dspex.errors import ConfigurationError, DspexError
from dspex.operations.resources.running import Runs
from dspex.settings import Settings
from dspex.surfaces.cli.options import (
    Printed,
    adapter_option,
    model_option,
    settings_of,
    state_option,
    with_services,
)
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.targets import code_root

APPLICATION = "dspex.surfaces.api:application"  # named as ASGI servers name it: surfaces do not import one another
CONFIG = "dspex.surfaces.api:ServerConfig"
CONNECTIONS = "dspex.surfaces.api.connections"
CONNECTION_NAMES = ("make_server", "granted_limits")
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104  # compared with, never listened on unasked
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@click.command("serve")
@click.option("--host", help="The address to listen on (127.0.0.1); beyond loopback callers need a key.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port (8123); 0 takes a free one.")
@click.option("--worker/--no-worker", default=None, help="Run jobs too, in a process of its own. With SQLite: yes.")
@click.option("--auth", is_flag=True, flag_value="on", default=None, help="Ask for a key on loopback too.")
@click.option("--allow-host", "allowed_hosts", help="Names by which it may be called, with commas between them.")
@model_option
@adapter_option
@state_option
@json_option
def serve_command(*, as_json: bool, **flags: Any) -> int:  # noqa: ANN401  # one value for each flag
    """Serve GraphQL, REST and the explorer page until interrupted.

    The command line and the server share one state folder: what one stores, the other sees.
    """
    try:
        from uvicorn.importer import import_from_string

        application, make_config = import_from_string(APPLICATION), import_from_string(CONFIG)
        make_server, make_limits = (import_from_string(f"{CONNECTIONS}:{name}") for name in CONNECTION_NAMES)
    except ImportError as error:
        raise ConfigurationError(f"the server needs more packages: pip install 'dspex[server]' ({error})") from error
    worker: bool | None = flags.pop("worker")
    settings = isolating(settings_of(serves=True, **flags))
    set_up_logs(settings)
    config = make_config(**_guards(settings))
    if config.needs_key:
        with_services(settings, _require_key)
    listener = _listen(settings.host, settings.port)
    url = f"http://{settings.host}:{listener.getsockname()[1]}"

    drains: list[Drain] = []
    refused: list[DspexError] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        async with AsyncExitStack() as stack:
            opening = open_services(settings, code=code_root(), observer=Printed(), say=say, serves=True)
            try:
                services = await stack.enter_async_context(opening)
            except DspexError as error:
                refused.append(error)
                raise
            _announce(url, services.database, as_json=as_json)
            is_embedded = services.data.is_sqlite if worker is None else worker
            async with attended(services, is_embedded=is_embedded):
                drains.append(Drain(services.operations.floor.executor.runs, settings.drain_seconds))
                yield services
        if drains[0].has_abandoned:
            _exit_now()

    app = application(opened, config, domain=domain_of(settings, code_root()))
    limits = make_limits(**_connections(settings))
    if limits.total < settings.max_connections:
        few = "the system grants this process too few descriptors"
        logging.getLogger("dspex").warning("at most %d connections: %s (ulimit -Hn)", limits.total, few)
    server = make_server(app, limits, graceful_s=int(2 * GRACE))
    _when_stopped(server, drains)
    # of a refusal uvicorn shows the traceback, and exits: it is one line, as everywhere
    logging.getLogger("uvicorn.error").addFilter(lambda _record: not refused)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        if not refused:
            raise
        raise refused[0] from None
    return 0 if server.started else 1


def isolating(settings: Settings) -> Settings:
    """Return the settings of a server: beyond loopback, code runs in workers unless the settings say otherwise."""
    if settings.isolation is None and settings.host not in LOOPBACK:
        return replace(settings, isolation="process")
    return settings


class Drain:
    """Ends what a server runs, in order. Made on its loop; `begin` and `hurry` are for any thread and do not wait."""

    def __init__(self, runs: Runs, seconds: int) -> None:
        """Take what runs, and the seconds that others have to notice that this server is being stopped."""
        self._runs = runs
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._hurried = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def has_abandoned(self) -> bool:
        """Whether something runs on that swallows its cancellation."""
        return bool(self._runs.abandoned)

    def begin(self, leave: Callable[[], object], *, is_asked: bool) -> None:
        """Take no new executions, wait for those that run, and call `leave`."""
        least = self._seconds if is_asked else 0
        self._loop.call_soon_threadsafe(lambda: self._tasks.append(self._loop.create_task(self._drained(leave, least))))

    def hurry(self) -> None:
        """Interrupt what runs now."""
        self._loop.call_soon_threadsafe(self._hurry)

    def _hurry(self) -> None:
        self._hurried.set()
        self._runs.interrupt()

    async def _drained(self, leave: Callable[[], object], least: int) -> None:
        await asyncio.gather(self._runs.drain(GRACE), self._patience(least))
        self._runs.is_over.set()
        leave()

    async def _patience(self, seconds: int) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), seconds)


def _when_stopped(server: Any, drains: list[Drain]) -> None:  # noqa: ANN401  # imported late
    """At the first signal to stop, refuse new executions, and stop listening when none runs; at the second, at once.

    SIGTERM leaves others the time to learn from /readyz that they shall call elsewhere; Ctrl+C does not.
    """
    leave, signals = server.handle_exit, count(1)

    def end(number: int, frame: FrameType | None) -> None:
        if drains[0].has_abandoned:
            server.config.timeout_graceful_shutdown = 1  # its request has no end either
        leave(number, frame)

    def handle_exit(number: int, frame: FrameType | None) -> None:
        asked = next(signals)
        if not drains or asked > 2:
            leave(number, frame)
        elif asked == 1:
            drains[0].begin(lambda: end(number, frame), is_asked=number == signal.SIGTERM)
        else:
            drains[0].hurry()

    server.handle_exit = handle_exit


def _exit_now() -> None:
    """End this process, whose services are closed: the event loop would wait for what was abandoned."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _guards(settings: Settings) -> dict[str, Any]:
    """Return how requests are checked, by the names of the API's own configuration."""
    is_local = settings.host in LOOPBACK
    names = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
    if settings.host in EVERYWHERE:
        names.add(socket.gethostname().lower())
    return {
        "needs_key": not is_local or settings.auth == "on",
        "hosts": frozenset(names | {settings.host}),
        "allows_addresses": not is_local,
        "timeout_s": float(settings.request_timeout),
        "body_bytes": settings.request_kib * 1024,
        "page_bytes": settings.page_kib * 1024,
        "requests_per_minute": settings.requests_per_minute,
        "concurrency": settings.concurrency,
    }


def _connections(settings: Settings) -> dict[str, Any]:
    """Return the limits of connections, by the names of the API's own configuration."""
    return {
        "total": settings.max_connections,
        "per_address": settings.connections_per_address,
        "idle_s": float(settings.idle_timeout),
        "proxies": tuple(ip_network(name.strip()) for name in settings.trusted_proxies.split(",") if name.strip()),
    }


async def _require_key(services: Services) -> None:
    if not await services.keys.exists():
        raise ConfigurationError(
            "callers of this server need a key, and there is none yet; make one with: "
            "dspex keys create NAME --scopes admin"
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port with --port, or 0 for a free one"
        ) from error


def _announce(url: str, database: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"url": url, "graphql": f"{url}/graphql", "explorer": f"{url}/explorer", "database": database})
    else:
        click.echo(f"serving {url}/graphql, explorer at {url}/explorer, database {database}; Ctrl+C stops it")
