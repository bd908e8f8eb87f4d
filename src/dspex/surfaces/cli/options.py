"""Options that several commands share, settings from flags, and services around a coroutine."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from dspex.bootstrap import DATABASE, Services, checked_settings, open_services
from dspex.errors import NotFoundError
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.backends.kinds import public_kinds
from dspex.operations.executions.executor import Executor
from dspex.operations.framework.access import DEFAULT_WORKSPACE, LOCAL
from dspex.operations.framework.operations import Operations
from dspex.operations.tenancy.records import WORKSPACE
from dspex.settings import Settings
from dspex.surfaces.cli.output import json_option, say
from dspex.surfaces.cli.progress import Progress
from dspex.surfaces.cli.targets import Target, code_root, find_target
from dspex.sync import run
from dspex.telemetry import Event, Silent

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
model_option = click.option(
    "--model", help="Model string, such as local/gemma3-270m or openai/gpt-4o-mini."
)
adapter_option = click.option(
    "--adapter",
    metavar=f"[{'|'.join(ADAPTERS)}]",
    help="The layout of prompts; also one that [adapters] of dspex.toml names.",
)
backend_option = click.option(
    "--backend",
    help=f"Where to run, overriding the stored choice: {', '.join(public_kinds())}.",
)
workspace_option = click.option(
    "--workspace", help="The workspace to act in; by default `default`."
)
state_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), help="The folder of the database (.dspex)."
)


def run_options(command: F) -> F:
    """Add the options --backend, --model, --adapter, --state-dir and --json to a command."""
    for option in (json_option, state_option, adapter_option, model_option, backend_option):
        command = option(command)
    return command


class PrintingObserver(Silent):
    """Prints the output of programs in workers to standard error."""

    __slots__ = ()

    def on_event(self, event: Event) -> None:
        """Print the event if it is a line from a worker."""
        if event.name == "log" and "worker" in event.attributes:
            self.show(f"{event.attributes['worker']}: {event.message}")

    def show(self, text: str) -> None:
        """Print a line."""
        say(text)


class WaitingObserver(PrintingObserver):
    """Also shows a live line while the first worker starts; later ones delay nobody."""

    __slots__ = ("_has_started", "_line")

    def __init__(self) -> None:
        self._has_started = False
        self._line: Progress | None = None

    def show(self, text: str) -> None:
        """Print a line above the live line."""
        say(text) if self._line is None else self._line.say(text)

    def on_event(self, event: Event) -> None:
        """Print a line from a worker; begin and end the live line."""
        super().on_event(event)
        if event.name != "worker" or self._has_started:
            return
        if event.attributes.get("state") != "starting":
            self.end()
            self._has_started = True
        elif self._line is None and sys.stderr.isatty():
            limit_s = float(str(event.attributes["limit_s"]))
            self._line = Progress(
                f"starting the worker {event.attributes['worker']}", limit_s=limit_s
            ).__enter__()

    def end(self) -> None:
        """End the live line."""
        if self._line is not None:
            self._line.__exit__()
            self._line = None


def settings_of(*, serves: bool = False, **flags: Any) -> Settings:
    """Return the settings with these flags; unknown variables are warnings, for servers errors.

    Raises:
        ConfigurationError: lists every problem of flags, environment, file and their values.
    """
    return checked_settings(flags, code=code_root(), warn=None if serves else warn)


def warn(text: str) -> None:
    """Print a warning."""
    say(f"{click.style('warning:', fg='yellow')} {text}")


def with_services(
    settings: Settings, work: Callable[[Services], Awaitable[T]], *, workspace: str | None = None
) -> T:
    """Open the services for the working folder, do `work` in a workspace, and close them."""
    observer = WaitingObserver()

    async def session() -> T:
        async with open_services(
            settings, code=code_root(), observer=observer, say=observer.show
        ) as services:
            return await work(await _in_workspace(services, workspace))

    try:
        return run(session())
    finally:
        observer.end()


def with_store(state_dir: Path | None, work: Callable[[Services], Awaitable[T]], **flags: Any) -> T:
    """Do `work` on the stored data, without opening the model of the settings."""
    return with_services(replace(settings_of(state_dir=state_dir, **flags), model=None), work)


def has_database(state_dir: Path | None) -> bool:
    """Return whether there is a database to read: a command that only reads creates none."""
    settings = settings_of(state_dir=state_dir)
    return settings.database_url is not None or (settings.state_dir / DATABASE).exists()


def find_program_target(text: str, state_dir: Path | None) -> Target:
    """Return the target of `text`; a name needs a database.

    Raises:
        DefinitionError: the file or name does not exist, or is not a program.
        NotFoundError: it is the name of a stored program, and nothing is stored here.
    """
    target = find_target(text, code_root())
    if target.program is None and not has_database(state_dir):
        raise NotFoundError(
            f"there is no program {text!r}, because nothing is stored here; to run code, write "
            "file.py:name"
        )
    return target


async def _in_workspace(services: Services, workspace: str | None) -> Services:
    """Return services whose operations, models and keys are those of a workspace.

    Raises:
        NotFoundError: there is no such workspace.
    """
    if workspace is None:
        return services
    operations = await operations_in(services, workspace)
    provide = operations.services[Executor].context_provider
    context = await provide(operations.workspace, services.context)
    return replace(services, operations=operations, context=context)


async def operations_in(services: Services, workspace: str | None) -> Operations:
    """Return the operations of this machine's user in a workspace, by default `default`.

    Raises:
        NotFoundError: there is no such workspace.
    """
    if workspace in {None, DEFAULT_WORKSPACE}:
        return services.operations
    row = await services.operations.store.get(WORKSPACE, name=workspace)
    if row is None or row.status != "active":
        raise NotFoundError(
            f"there is no active workspace {workspace!r}; see `dspex workspace list`"
        )
    return services.operations.as_actor(replace(LOCAL, workspace=row.name))
