"""Words of chunks that FTS5 has indexed; see `WordTable`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import Index
from dspex.operations.storage.chunk_tables import search_table
from dspex.operations.storage.tokenizer import Tokenizer
from dspex.operations.storage.word_table import Postings

_decode: Final = msgspec.json.Decoder(list[int]).decode


class FTS5Words:
    """Reads the terms, lengths and postings of FTS5."""

    def __init__(self) -> None:
        """Begin without tokenizers."""
        self._tokenizers: dict[str, Tokenizer] = {}

    async def terms(
        self, connection: AsyncConnection, index: Index, words: Sequence[str]
    ) -> Counter[str]:
        """Divide words in this process; see `WordTable.terms`."""
        del connection
        if index.language not in self._tokenizers:
            self._tokenizers[index.language] = Tokenizer(index.language)
        return self._tokenizers[index.language].terms(words)

    async def common_terms(
        self, connection: AsyncConnection, index: Index, *, most: int
    ) -> Sequence[str]:
        """Return none: FTS5 reads every term fast enough; see `WordTable.common_terms`."""
        del connection, index, most
        return ()

    async def lengths(
        self, connection: AsyncConnection, index: Index, *, first: int
    ) -> Mapping[int, int]:
        """Return the numbers of tokens; see `WordTable.lengths`."""
        sql = f"SELECT id, sz FROM {search_table(index.id)}_docsize WHERE id >= :first"
        rows = await connection.execute(sa.text(sql).bindparams(first=first))
        return {row[0]: token_count(row[1]) for row in rows}

    async def postings(
        self, connection: AsyncConnection, index: Index, firsts: Mapping[str, int]
    ) -> Sequence[Postings]:
        """Return what the vocabulary has of terms; see `WordTable.postings`."""
        table = f"temp.terms_{index.id.hex}"
        await connection.exec_driver_sql(
            f"CREATE VIRTUAL TABLE {table} "
            f"USING fts5vocab('main', '{search_table(index.id)}', 'instance')"
        )
        values: dict[str, Any] = {}
        parts: list[str] = []
        for number, (term, first) in enumerate(firsts.items()):
            values |= {f"t{number}": term, f"f{number}": first}
            rule = f"term = :t{number} AND doc >= :f{number}"
            parts.append(f"SELECT json_group_array(doc) FROM {table} WHERE {rule}")
        # one statement: each one costs a turn of the thread of the connection
        sql = sa.text(" UNION ALL ".join(parts)).bindparams(**values)
        lists = (await connection.execute(sql)).scalars().all()
        await connection.exec_driver_sql(f"DROP TABLE {table}")
        # a chunk is listed as often as it has the term
        return [_counted(_decode(text)) for text in lists]


def _counted(ids: list[int]) -> Postings:
    import numpy as np

    unique, counts = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
    return Postings(unique, counts)


def token_count(data: bytes) -> int:
    """Return the length of a text from its form in FTS5: seven bits a byte, the last below 128."""
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value
