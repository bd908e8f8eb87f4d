"""The protocol of retrievers: one async call from a query to passages."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

import msgspec

from dspex.execution.retrieval.where import Where
from dspex.language.records import Passage, Usage


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The passages of one search, best first. It is a sequence of them.

    `exact` is False if an approximate index may have missed a better passage. `scanned` is the
    number of chunks that passed the filters and were ranked, None if it is not known. `usage` is
    what embedding and reranking cost.
    """

    passages: tuple[Passage, ...]
    exact: bool = True
    scanned: int | None = None
    usage: Usage = Usage()

    def __len__(self) -> int:
        """Return the number of passages, which may be smaller than the `k` asked for."""
        return len(self.passages)

    def __iter__(self) -> Iterator[Passage]:
        """Yield the passages, best first."""
        return iter(self.passages)

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Passage, ...]: ...
    def __getitem__(self, index: int | slice) -> Passage | tuple[Passage, ...]:
        """Return a passage by its rank, or several by a slice."""
        return self.passages[index]


class Retriever(Protocol):
    """Finds passages for a query; safe to share between tasks.

    A retriever of the user may return any sequence of `Passage`; `SearchResult` adds figures.
    """

    name: str

    async def search(
        self, query: str, k: int = 5, where: Where | dict[str, Any] | None = None
    ) -> Sequence[Passage] | SearchResult:
        """Return at most `k` passages, best first.

        Args:
            query: the text to look for.
            k: the largest number of passages, at least 1.
            where: conditions on the metadata; only passages that meet them are ranked.

        Raises:
            InputError: `k` or `where` is invalid; the message names the part.
            ModelError: the query could not be embedded.
        """
        ...
