"""Words of chunks that PostgreSQL has indexed as tsvector; see `WordTable`."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.execution.retrieval.words import remove_accents, split_words
from dspex.operations.collections.collection_storage import Index
from dspex.operations.storage.chunk_tables import search_table
from dspex.operations.storage.word_table import Postings

_MOST: Final = 256
"""The most places of a term in a text that a tsvector keeps."""
_CONFIGURATIONS: Final[Mapping[str, str]] = {
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}


def configuration(index: Index) -> str:
    """Return how PostgreSQL divides the texts of an index into words, and these into stems."""
    return _CONFIGURATIONS.get(index.language, "simple")


def plain_text(index: Index, text: str) -> str:
    """Return the words of a text, divided as FTS5 divides them.

    The parser of PostgreSQL would make one term of "lamp/chair", an address, or the "-19" in
    "covid-19". Stems of other languages than English depend on accents.
    """
    if configuration(index) in {"english", "simple"}:
        return " ".join(split_words(remove_accents(text)))
    return " ".join(split_words(unicodedata.normalize("NFC", text)))


class TSVectorWords:
    """Reads the terms, lengths and postings of a column of type tsvector.

    The length of a chunk is the number of its different terms.
    """

    async def terms(
        self, connection: AsyncConnection, index: Index, words: Sequence[str]
    ) -> Counter[str]:
        """Let the database divide words; see `WordTable.terms`."""
        sql = (
            "SELECT lexeme, cardinality(positions) "
            f"FROM unnest(to_tsvector('{configuration(index)}', :words))"
        )
        rows = await connection.execute(
            sa.text(sql).bindparams(words=plain_text(index, " ".join(words)))
        )
        return Counter({row[0]: row[1] for row in rows})

    async def common_terms(
        self, connection: AsyncConnection, index: Index, *, most: int
    ) -> Sequence[str]:
        """Return those that the statistics of the planner list; see `WordTable.common_terms`."""
        sql = (
            "SELECT CAST(CAST(s.most_common_elems AS text) AS text[]), s.most_common_elem_freqs, "
            "c.reltuples FROM pg_stats AS s JOIN pg_class AS c ON c.oid = to_regclass(:name) "
            "WHERE s.tablename = :name AND s.attname = 'words' AND s.schemaname = current_schema()"
        )
        rows = await connection.execute(sa.text(sql).bindparams(name=search_table(index.id)))
        terms, shares, chunks = rows.first() or ((), (), 0)
        # the statistics end with the least and the greatest share
        pairs = sorted(zip(terms or (), shares or (), strict=False), key=lambda pair: -pair[1])
        totals = accumulate(share * chunks for _, share in pairs)
        return [term for (term, _), total in zip(pairs, totals, strict=True) if total <= most]

    async def lengths(
        self, connection: AsyncConnection, index: Index, *, first: int
    ) -> Mapping[int, int]:
        """Return the numbers of different terms; see `WordTable.lengths`."""
        sql = (
            "SELECT array_agg(chunk_id), array_agg(length(words)) "
            f"FROM {search_table(index.id)} WHERE chunk_id >= :first"
        )
        ids, lengths = (await connection.execute(sa.text(sql).bindparams(first=first))).one()
        return dict(zip(ids or [], lengths or [], strict=True))

    async def postings(
        self, connection: AsyncConnection, index: Index, firsts: Mapping[str, int]
    ) -> Sequence[Postings]:
        """Return what the index of words finds; see `WordTable.postings`."""
        import numpy as np

        values: dict[str, Any] = {}
        parts: list[str] = []
        for number, (term, first) in enumerate(firsts.items()):
            quoted = term.replace("\\", "\\\\").replace("'", "''")
            values |= {f"t{number}": f"'{quoted}'", f"f{number}": first}
            query = f"CAST(CAST(:t{number} AS text) AS tsquery)"
            rank = f"ts_rank('{{1,1,1,1}}', words, {query})"
            # texts of bytes are read at once, and arrays one number at a time
            parts.append(
                f"SELECT {number}, string_agg(int8send(chunk_id), ''), "
                f"string_agg(float4send({rank}), '') "
                f"FROM {search_table(index.id)} "
                f"WHERE words @@ {query} AND chunk_id >= :f{number}"
            )
        sql = sa.text(" UNION ALL ".join(parts) + " ORDER BY 1").bindparams(**values)
        lists = (await connection.execute(sql)).all()
        return [
            Postings(
                np.frombuffer(ids or b"", dtype=">i8").astype(np.int64),
                counts_of(np.frombuffer(ranks or b"", dtype=">f4")),
            )
            for _, ids, ranks in lists
        ]


def counts_of(ranks: Any) -> Any:
    """Return how often chunks have a term, from what `ts_rank` gives them for that term alone.

    No function returns the number of places without reading all terms of a text. With all weights
    1, the rank of a term with n places is the sum of 1/i² for i up to n, divided by that of all i.
    """
    import numpy as np

    places = np.arange(1, _MOST + 1, dtype=np.float64)
    sums = np.cumsum(places**-2) * 6 / np.pi**2
    middles = (sums[1:] + sums[:-1]) / 2
    return np.searchsorted(middles, ranks) + 1
