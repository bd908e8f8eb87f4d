"""`dspex serve`: the API on loopback."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from dspex.bootstrap import open_services
from dspex.errors import ConfigurationError
from dspex.operations.resources import Operations
from dspex.surfaces.cli.options import adapter_option, model_option, settings_of, state_option
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.targets import code_root

APPLICATION = "dspex.surfaces.api:application"  # named as ASGI servers name it: surfaces do not import one another
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@click.command("serve")
@click.option("--host", help="A loopback address (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="The port (8123); 0 takes a free one.")
@model_option
@adapter_option
@state_option
@json_option
def serve_command(  # one parameter for each flag
    *,
    host: str | None,
    port: int | None,
    model: str | None,
    adapter: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Serve GraphQL and its explorer page until interrupted.

    The command line and the server share one state folder: what one stores, the other sees.
    """
    try:
        import uvicorn
        from uvicorn.importer import import_from_string

        application = import_from_string(APPLICATION)
    except ImportError as error:
        raise ConfigurationError(f"the server needs more packages: pip install 'dspex[server]' ({error})") from error
    settings = settings_of(host=host, port=port, model=model, adapter=adapter, state_dir=state_dir)
    if settings.host not in LOOPBACK:
        raise ConfigurationError(
            f"host {settings.host!r} is reachable from elsewhere, and this server has no access control yet; "
            "use 127.0.0.1, and a reverse proxy that authenticates"
        )
    listener = _listen(settings.host, settings.port)
    url = f"http://{settings.host}:{listener.getsockname()[1]}"

    @asynccontextmanager
    async def opened() -> AsyncIterator[Operations]:
        async with open_services(settings, code=code_root(), say=say, serves=True) as services:
            _announce(url, services.database, as_json=as_json)
            yield services.operations

    config = uvicorn.Config(application(opened), log_level="warning", access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    return 0 if server.started else 1


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
