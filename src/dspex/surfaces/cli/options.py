"""Options that several commands share, settings from flags, and services around a coroutine."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from dspex.bootstrap import Services, checked_settings, open_services
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.backends.kinds import public_kinds
from dspex.settings import Settings
from dspex.surfaces.cli.output import json_option, say
from dspex.surfaces.cli.targets import code_root
from dspex.sync import run
from dspex.telemetry import Event, Silent

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
model_option = click.option(
    "--model", help="Model string, such as local/gemma3-270m or openai/gpt-4o-mini."
)
adapter_option = click.option(
    "--adapter", type=click.Choice([*ADAPTERS]), help="The layout of prompts."
)
backend_option = click.option(
    "--backend",
    help=f"Where to run, overriding the stored choice: {', '.join(public_kinds())}.",
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
            say(f"{event.attributes['worker']}: {event.message}")


def settings_of(*, serves: bool = False, **flags: Any) -> Settings:
    """Return the settings with these flags; unknown variables are warnings, for servers errors.

    Raises:
        ConfigurationError: lists every problem of flags, environment, file and their values.
    """
    return checked_settings(flags, code=code_root(), warn=None if serves else warn)


def warn(text: str) -> None:
    """Print a warning."""
    say(f"{click.style('warning:', fg='yellow')} {text}")


def with_services(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    """Open the services for the working folder, do `work`, and close them."""

    async def session() -> T:
        async with open_services(
            settings, code=code_root(), observer=PrintingObserver(), say=say
        ) as services:
            return await work(services)

    return run(session())


def with_store(state_dir: Path | None, work: Callable[[Services], Awaitable[T]], **flags: Any) -> T:
    """Do `work` on the stored data, without opening the model of the settings."""
    return with_services(replace(settings_of(state_dir=state_dir, **flags), model=None), work)
