"""Texts that must not be shown, and where they come from."""

import os
from pathlib import Path

from dspex.errors import ConfigurationError


class Secret:
    """A text that is hidden in `repr` and is returned by `reveal` only."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, value: object) -> bool:
        return isinstance(value, Secret) and self._text == value._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the text."""
        return self._text


def resolve_secret(reference: str) -> Secret:
    """Return the secret of a reference "env:NAME" or "file:/path", without a final line end.

    Raises:
        ConfigurationError: the variable is not set, or the file cannot be read.
    """
    kind, _, where = reference.partition(":")
    if kind == "env":
        if text := os.environ.get(where):
            return Secret(text)
        raise ConfigurationError(f"a secret refers to the variable {where}, which is not set")
    try:
        return Secret(Path(where).read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"a secret refers to the file {where}, which cannot be read: {error}"
        ) from error
