"""A group of commands whose error for an unknown one suggests a similar name."""

from collections.abc import Iterable

import click


class SuggestingGroup(click.Group):
    """A group that suggests what an unknown command may mean."""

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
