"""The group of all commands; turns errors into messages and exit codes."""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import dspex.surfaces.cli as cli_package
from dspex._version import __version__

_FIRST = ("run", "prompt", "eval", "optimize", "import", "serve")  # in `--help`; others by name


@cache
def command_modules() -> dict[str, str]:
    """Return the module of each command by its name, in the order of the help page.

    A command is a module of this package that defines `NAME_command`. A name that Python reserves
    has an underscore after it in the module's name.
    """
    modules = {}
    for folder in cli_package.__path__:
        for file in Path(folder).glob("*.py"):
            name = file.stem.rstrip("_")
            if f"{name}_command" in file.read_text(encoding="utf-8"):
                modules[name] = f"{cli_package.__name__}.{file.stem}"
    order = [*(name for name in _FIRST if name in modules), *sorted(modules.keys() - {*_FIRST})]
    return {name: modules[name] for name in order}


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is used or its help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help page."""
        return list(command_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command."""
        module = command_modules().get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; the error for an unknown one suggests a similar name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from dspex.error_text import suggest

            raise click.UsageError(
                f"{error.message}{suggest(args[0], command_modules())}", ctx=error.ctx
            ) from None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dspex")
def cli() -> None:
    """Programs made of language-model calls: run, record, evaluate, serve.

    A TARGET is file.py:name, package.module:name, a saved program.json, or the name of a stored
    program.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""
    from dspex.errors import DspexError
    from dspex.surfaces.cli.output import fail

    argv: Any = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(cli.main(args=argv, prog_name="dspex", standalone_mode=False) or 0)
    except DspexError as error:
        sys.exit(fail(error, as_json="--json" in argv))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (`head`) has closed it
        sys.stderr.close()
        sys.exit(0)
