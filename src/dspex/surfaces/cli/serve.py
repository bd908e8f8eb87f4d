"""`dspex serve`: serve the API."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_network
from itertools import count
from types import FrameType
from typing import Any

import click

from dspex.bootstrap import Services, domain_of, open_services, watch_jobs
from dspex.bootstrap.logs import set_up_logs
from dspex.bootstrap.retention import GRACE
from dspex.errors import ConfigurationError, DspexError
from dspex.language.programs import Program
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.running_executions import RunningExecutions
from dspex.settings import Settings
from dspex.surfaces.cli.complete import complete_target
from dspex.surfaces.cli.options import (
    PrintingObserver,
    adapter_option,
    model_option,
    settings_of,
    state_option,
    with_services,
)
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.push import program_in_code, store_version
from dspex.surfaces.cli.targets import code_root

# by name, as in ASGI servers: surfaces do not import each other
SERVER_PARTS = (
    "dspex.surfaces.api:application",
    "dspex.surfaces.api:ServerConfig",
    "dspex.surfaces.api.connections:make_server",
    "dspex.surfaces.api.connections:granted_limits",
)
ALL_ADDRESSES = {"0.0.0.0", "::"}  # noqa: S104  # only compared with
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@click.command("serve")
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_target)
@click.option(
    "--host", help="The address to listen on (127.0.0.1); other than loopback requires keys."
)
@click.option("--port", type=click.IntRange(0, 65535), help="The port (8123); 0 takes a free port.")
@click.option(
    "--worker/--no-worker",
    default=None,
    help="Also run jobs, in a separate process. With SQLite: yes.",
)
@click.option(
    "--auth", is_flag=True, flag_value="on", default=None, help="Require a key on loopback too."
)
@click.option(
    "--log-requests/--no-log-requests",
    default=None,
    help="Print a line for each request. On a terminal: yes.",
)
@click.option("--allow-host", "allowed_hosts", help="Accepted host names, separated by commas.")
@click.option(
    "--reload", "reloads", is_flag=True, help="Start again when a .py file or dspex.toml changes."
)
@click.option("--listener", type=int, hidden=True, help="Serve on this open socket.")
@model_option
@adapter_option
@state_option
@json_option
def serve_command(
    *,
    targets: tuple[str, ...],
    as_json: bool,
    worker: bool | None,
    reloads: bool,
    listener: int | None,
    **flags: Any,
) -> int:
    """Serve GraphQL, REST and the explorer page until interrupted.

    Each TARGET (file.py:name or program.json) is stored first, as `dspex push` does; with --reload
    also after each edit. The command line and the server share the data of one state folder.
    """
    logs_requests = flags.pop("log_requests")
    if logs_requests is None:
        logs_requests = sys.stderr.isatty()
    parts = server_parts(*SERVER_PARTS)
    settings = with_isolation(settings_of(serves=True, **flags))
    if reloads:
        return _serve_with_reload(settings)
    set_up_logs(settings)
    if logs_requests:
        logging.getLogger("dspex.requests").setLevel(logging.INFO)
    config = parts["ServerConfig"](**_request_limits(settings), logs_requests=logs_requests)
    if config.needs_key:
        with_services(settings, _require_key)
    socket_ = _listen(settings.host, settings.port) if listener is None else _inherited(listener)
    url = f"http://{settings.host}:{socket_.getsockname()[1]}"
    programs = [program_in_code(target) for target in targets]
    startup = Startup(settings, url, worker=worker, as_json=as_json, programs=programs)
    app = parts["application"](startup.open, config, domain=domain_of(settings, code_root()))
    limits = parts["granted_limits"](**_connection_limits(settings))
    if limits.total < settings.max_connections:
        reason = "the system grants this process too few file descriptors"
        logging.getLogger("dspex").warning(
            "at most %d connections: %s (ulimit -Hn)", limits.total, reason
        )
    server = parts["make_server"](app, limits, graceful_s=int(2 * GRACE))
    _handle_signals(server, startup)
    # uvicorn would log the traceback of a failed start and exit; we show the usual one-line error
    logging.getLogger("uvicorn.error").addFilter(lambda _record: startup.error is None)
    try:
        server.run(sockets=[socket_])
    except SystemExit:
        if startup.error is None:
            raise
        raise startup.error from None
    return 0 if server.started else 1


def _serve_with_reload(settings: Settings) -> int:
    from dspex.surfaces.cli.reload import arguments_of, serve_with_reload

    words = arguments_of(click.get_current_context(), without=("reloads",))
    return serve_with_reload(_listen(settings.host, settings.port), words, code_root().folder)


def _inherited(descriptor: int) -> socket.socket:
    from dspex.surfaces.cli.reload import inherited_listener

    return inherited_listener(descriptor)


def server_parts(*paths: str) -> dict[str, Any]:
    """Return parts of the API ("module:name") by name.

    Raises:
        ConfigurationError: a package of the server is not installed.
    """
    try:
        from uvicorn.importer import import_from_string

        return {path.partition(":")[2]: import_from_string(path) for path in paths}
    except ImportError as error:
        raise ConfigurationError(
            f"the server needs more packages: pip install 'dspex[server]' ({error})"
        ) from error


class Startup:
    """Opens the services of a server; `drain` is set when they are open, `error` if they fail."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        *,
        worker: bool | None,
        as_json: bool,
        programs: Sequence[Program] = (),
    ) -> None:
        """Take the settings, the URL to announce, and programs to store first."""
        self._settings = settings
        self._url = url
        self._worker = worker
        self._as_json = as_json
        self._programs = programs
        self.drain: Drain | None = None
        self.error: DspexError | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Services]:
        """Open the services, announce the server, and supervise its jobs."""
        async with AsyncExitStack() as stack:
            manager = open_services(
                self._settings, code=code_root(), observer=PrintingObserver(), say=say, serves=True
            )
            try:
                services = await stack.enter_async_context(manager)
                for program in self._programs:
                    say(str(await store_version(services.operations, program)))
            except DspexError as error:
                self.error = error
                raise
            _announce(self._url, services.database, as_json=self._as_json)
            is_embedded = services.data.is_sqlite if self._worker is None else self._worker
            async with watch_jobs(services, is_embedded=is_embedded):
                runs = services.operations.services[Executor].runs
                self.drain = Drain(runs, self._settings.drain_seconds)
                yield services
        if self.drain.has_abandoned:
            _exit_now()


def with_isolation(settings: Settings) -> Settings:
    """Return the settings of a server: beyond loopback, code runs in workers by default."""
    if settings.isolation is None and settings.host not in LOOPBACK:
        return replace(settings, isolation="process")
    return settings


class Drain:
    """Drains the executions of a server that stops.

    Created on its event loop; `begin` and `hurry` may be called from any thread and return at once.
    """

    def __init__(self, runs: RunningExecutions, seconds: int) -> None:
        """Take the running executions, and the time for others to notice that the server stops."""
        self._runs = runs
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._hurry_event = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def has_abandoned(self) -> bool:
        """Whether an execution still runs because it ignored its cancellation."""
        return bool(self._runs.abandoned)

    def begin(self, on_end: Callable[[], object], *, waits_for_peers: bool) -> None:
        """Refuse new executions, wait for the running ones, and call `on_end`."""
        minimum_s = self._seconds if waits_for_peers else 0
        self._loop.call_soon_threadsafe(
            lambda: self._tasks.append(self._loop.create_task(self._drain(on_end, minimum_s)))
        )

    def hurry(self) -> None:
        """Interrupt the running executions."""
        self._loop.call_soon_threadsafe(self._hurry)

    def _hurry(self) -> None:
        self._hurry_event.set()
        self._runs.interrupt()

    async def _drain(self, on_end: Callable[[], object], minimum_s: int) -> None:
        await asyncio.gather(self._runs.drain(GRACE), self._wait_or_hurry(minimum_s))
        self._runs.is_over.set()
        on_end()

    async def _wait_or_hurry(self, seconds: int) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry_event.wait(), seconds)


def _handle_signals(server: Any, startup: Startup) -> None:
    """Drain the server at the first signal, interrupt executions at the second, exit at the third.

    SIGTERM leaves load balancers time to see in /readyz that the server stops; Ctrl+C does not.
    """
    exit_server, signals = server.handle_exit, count(1)

    def end(number: int, frame: FrameType | None) -> None:
        if startup.drain is not None and startup.drain.has_abandoned:
            server.config.timeout_graceful_shutdown = 1  # its request does not end either
        exit_server(number, frame)

    def handle_exit(number: int, frame: FrameType | None) -> None:
        times = next(signals)
        if startup.drain is None or times > 2:
            exit_server(number, frame)
        elif times == 1:
            startup.drain.begin(
                lambda: end(number, frame), waits_for_peers=number == signal.SIGTERM
            )
        else:
            startup.drain.hurry()

    server.handle_exit = handle_exit


def _exit_now() -> None:
    """Exit the process now: the event loop would wait for the abandoned executions."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _request_limits(settings: Settings) -> dict[str, Any]:
    """Return the request limits under the names of the API's configuration."""
    is_local = settings.host in LOOPBACK
    names = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
    if settings.host in ALL_ADDRESSES:
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


def _connection_limits(settings: Settings) -> dict[str, Any]:
    """Return the connection limits under the names of the API's configuration."""
    return {
        "total": settings.max_connections,
        "per_address": settings.connections_per_address,
        "idle_s": float(settings.idle_timeout),
        "proxies": tuple(
            ip_network(name.strip()) for name in settings.trusted_proxies.split(",") if name.strip()
        ),
    }


async def _require_key(services: Services) -> None:
    if not await services.keys.exists():
        raise ConfigurationError(
            "this server requires API keys, and none exists yet; create one with: dspex key "
            "create NAME admin"
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port with --port, "
            "or 0 for a free one"
        ) from error


def _announce(url: str, database: str, *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "url": url,
                "graphql": f"{url}/graphql",
                "explorer": f"{url}/explorer",
                "docs": f"{url}/docs",
                "database": database,
            }
        )
    else:
        click.echo(
            f"serving {url}/graphql, explorer at {url}/explorer, REST at {url}/docs, database "
            f"{database}; Ctrl+C stops it"
        )
