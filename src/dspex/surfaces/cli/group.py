"""A group of commands whose error for an unknown one suggests a similar name."""

from collections.abc import Callable, Iterable

import click


class SuggestingGroup(click.Group):
    """A group that suggests what an unknown command may mean.

    `rest` returns further commands; it is called when one may be asked for.
    """

    rest: Callable[[], Iterable[click.Command]] = tuple

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        self._add_rest()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; those of `rest` are made if no other has this name."""
        if cmd_name not in self.commands:
            self._add_rest()
        return super().get_command(ctx, cmd_name)

    def _add_rest(self) -> None:
        for command in self.rest():
            self.commands.setdefault(str(command.name), command)

    def known_names(self) -> Iterable[str]:
        """Return the names to suggest."""
        return self.commands

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; the error for an unknown one suggests a similar name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from dspex.error_text import suggest

            message = f"{error.message}{suggest(args[0], [*self.known_names()])}"
            raise click.UsageError(message, ctx=error.ctx) from None
