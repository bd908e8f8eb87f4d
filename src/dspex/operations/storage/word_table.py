"""The table of the words of an index in a database, from which they are read into memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import Index

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray


class Postings(NamedTuple):
    """The ids of chunks that have a term, and how often each has it."""

    ids: "NDArray[numpy.int64]"
    counts: "NDArray[numpy.int64]"


class WordTable(Protocol):
    """Reads words as the database has divided them. Each method is part of a transaction."""

    async def terms(
        self, connection: AsyncConnection, index: Index, words: Sequence[str]
    ) -> Counter[str]:
        """Return the terms of some words, and how many words have each."""
        ...

    async def common_terms(
        self, connection: AsyncConnection, index: Index, *, most: int
    ) -> Sequence[str]:
        """Return terms that take long to read one by one, with at most `most` postings together."""
        ...

    async def lengths(
        self, connection: AsyncConnection, index: Index, *, first: int
    ) -> Mapping[int, int]:
        """Return the lengths of chunks by id, from the id `first` on."""
        ...

    async def postings(
        self, connection: AsyncConnection, index: Index, firsts: Mapping[str, int]
    ) -> Sequence[Postings]:
        """Return the chunks of each term in the order of `firsts`, from an id for each on."""
        ...
