"""The protocol of retrievers: one async call from a query to passages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, overload, runtime_checkable

import msgspec

from dspex.error_text import shorten
from dspex.errors import FieldError, InputError
from dspex.execution.clients.embedder import Embedder
from dspex.execution.retrieval.where import Where
from dspex.language.records import Passage, Usage
from dspex.notebook import lazy_html

SearchMode = Literal["lexical", "dense", "hybrid", "whole"]
SEARCH_MODES: tuple[SearchMode, ...] = get_args(SearchMode)
MAX_K = 1000


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

    _repr_html_ = lazy_html("dspex.execution.retrieval.representation:search_html")

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


@runtime_checkable
class Retriever(Protocol):
    """Finds passages for a query; safe to share between tasks.

    A retriever of the user may return any sequence of `Passage`; `SearchResult` adds figures.
    """

    @property
    def name(self) -> str:
        """Return the name in spans and messages."""
        ...

    async def search(
        self, query: str, k: int = 5, where: Where | Mapping[str, Any] | None = None
    ) -> Sequence[Passage] | SearchResult:
        """Return at most `k` passages, best first.

        Args:
            query: the text to look for.
            k: the maximum number of passages, at least 1.
            where: conditions on the metadata; only passages that meet them are ranked.

        Raises:
            InputError: `k` or `where` is invalid; the message names the part.
            ModelError: the query could not be embedded.
        """
        ...


@runtime_checkable
class Searchable(Protocol):
    """A collection of documents, in memory or stored: it has retrievers for each way to search."""

    @property
    def name(self) -> str:
        """Return the name, by which stored programs refer to the collection."""
        ...

    @property
    def embedder(self) -> Embedder | str | None:
        """Return the embedder that a caller has to resolve and pass to `retriever`, if any."""
        ...

    def retriever(
        self,
        *,
        mode: SearchMode = "hybrid",
        weight: float = 0.5,
        chunking: Mapping[str, Any] | None = None,
        embedder: Embedder | None = None,
    ) -> Retriever:
        """Return a retriever over the documents.

        Args:
            mode: "lexical" by words, "dense" by vectors, "hybrid" by both; "whole" returns all
                documents as passages if they are short together, otherwise it is hybrid.
            weight: the share of the dense ranking in hybrid search, from 0 to 1.
            chunking: settings of a chunker, by default those of the collection.
            embedder: the embedder that resolves the string in the property `embedder`.

        Raises:
            DefinitionError: the collection cannot be searched in this way.
        """
        ...


@runtime_checkable
class Reranker(Protocol):
    """Orders passages better than a search did; safe to share between tasks."""

    async def rerank(self, query: str, passages: Sequence[Passage]) -> Sequence[Passage]:
        """Return passages in a better order; it may leave some out.

        Args:
            query: the text that was searched for.
            passages: the passages of the search, best first.
        """
        ...


def check_query(query: object, k: object, *, mode: object = "hybrid", weight: object = 0.5) -> None:
    """Check the values of a search.

    Raises:
        InputError: one of them is invalid.
    """
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    checks = (
        ("query", query, isinstance(query, str) and query.strip() != "", "a text"),
        ("k", k, type(k) is int and 1 <= k <= MAX_K, f"a whole number from 1 to {MAX_K}"),
        ("mode", mode, mode in SEARCH_MODES, f"one of: {', '.join(SEARCH_MODES)}"),
        ("weight", weight, is_number and 0 <= weight <= 1, "a number from 0 to 1"),  # type: ignore[operator]
    )
    errors = [
        FieldError(
            field=name,
            path=name,
            value=value,
            message=f"{name}: expected {expected}, got {shorten(value)}",
            constraint=name,
            expected=expected,
        )
        for name, value, is_valid, expected in checks
        if not is_valid
    ]
    if errors:
        raise InputError("; ".join(error.message for error in errors), errors=errors)
