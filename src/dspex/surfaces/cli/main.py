"""The root of all commands; turns errors into messages and exit codes."""

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

import dspex.surfaces.cli as cli_package
from dspex._version import __version__
from dspex.surfaces.cli.group import SuggestingGroup

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_DAILY = (
    *("run", "prompt", "eval", "optimize", "push", "serve"),
    *("init", "doctor", "import", "schema", "completion", "do"),
)


def command_modules() -> dict[str, tuple[str, str]]:
    """Return the module and the summary of each command by its name, in the order of the help.

    A command is a module of this package that defines `NAME_command`; its docstring begins with
    "`dspex NAME`: " and the summary. A name that Python reserves has an underscore after it in the
    module's name. The modules are not imported, because that takes longer than the help page may.
    """
    modules = {}
    for folder in cli_package.__path__:
        for file in Path(folder).glob("*.py"):
            name, text = file.stem.rstrip("_"), file.read_text(encoding="utf-8")
            if f"{name}_command" in text:
                summary = text.partition("`: ")[2].partition('"""')[0].partition("\n")[0]
                modules[name] = (
                    f"{cli_package.__name__}.{file.stem}",
                    summary[:1].upper() + summary[1:],
                )
    nouns = sorted(modules.keys() - {*_DAILY})
    return {name: modules[name] for name in (*_DAILY, *nouns) if name in modules}


class _LazyGroup(SuggestingGroup):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help page."""
        return list(command_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command: of this package, or of a resource that the settings add."""
        if cmd_name in command_modules():
            module, _ = command_modules()[cmd_name]
            command: click.Command = getattr(import_module(module), f"{cmd_name}_command")
            return command
        from dspex.surfaces.cli.nouns import other_group

        return other_group(cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what begins so: commands, options, and also nouns that the help leaves out."""
        from dspex.errors import DspexError

        items = super().shell_complete(ctx, incomplete)
        if not incomplete:
            return items
        try:
            names = {name for name in self.known_names() if name.startswith(incomplete)}
        except DspexError:  # of the settings, which a shell cannot show
            return items
        return items + [
            CompletionItem(name) for name in sorted(names - {item.value for item in items})
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the daily commands, then those on what is stored."""
        rows = {name: summary for name, (_, summary) in command_modules().items()}
        with formatter.section("Commands"):
            formatter.write_dl([(name, rows[name]) for name in rows if name in _DAILY])
        with formatter.section("What is stored"):
            formatter.write_dl([(name, rows[name]) for name in rows if name not in _DAILY])

    def known_names(self) -> Iterable[str]:
        """Return the names to suggest: of this package, and of all resources."""
        from dspex.surfaces.cli.nouns import all_nouns

        return {**command_modules(), **all_nouns()}


@click.group(cls=_LazyGroup, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="dspex")
def cli() -> None:
    """Programs made of language-model calls: run, record, evaluate, serve.

    A TARGET is file.py:name, package.module:name, a saved program.json, or the name of a stored
    program. The resources that your settings add have commands too: dspex NAME --help.
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
