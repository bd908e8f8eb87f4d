"""`dspex completion SHELL`: the script that completes commands and options in a shell."""

import click
from click.shell_completion import get_completion_class

from dspex.errors import InternalError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_DSPEX_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion_command(context: click.Context, /, *, shell: str) -> int:
    """Print the completion script for SHELL.

    \b
    bash: dspex completion bash > ~/.local/share/bash-completion/completions/dspex
    zsh:  dspex completion zsh > ~/.zfunc/_dspex     (a folder of $fpath)
    fish: dspex completion fish > ~/.config/fish/completions/dspex.fish
    """  # noqa: D301  # \b is click's mark for lines that it does not wrap
    click.echo(completion_script(context.find_root().command, shell))
    return 0


def completion_script(group: click.Command, shell: str) -> str:
    """Return the completion script, which calls `dspex` for the candidates.

    Raises:
        InternalError: click has no completion for this shell.
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise InternalError(f"click has no completion for {shell!r}")
    return completion(group, {}, "dspex", VARIABLE).source()
