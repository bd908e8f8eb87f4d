"""The service that resolves the embedders of collections, with the keys of a workspace."""

from typing import Protocol

from dspex.execution.clients.embedder import Embedder


class CollectionEmbedders(Protocol):
    """Resolves embedder strings; safe to share between tasks."""

    @property
    def default(self) -> str | None:
        """The embedder of collections that name none; None: they are searched by words only."""
        ...

    async def embedder(self, workspace: str, name: str) -> Embedder:
        """Return the embedder that a workspace means by a string.

        Raises:
            ConfigurationError: this workspace may not choose it, a key is missing, or the string
                is unknown.
        """
        ...
