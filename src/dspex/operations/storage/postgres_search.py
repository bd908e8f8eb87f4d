"""Searches in PostgreSQL: tsvector for words, pgvector for vectors where it is installed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.errors import ConfigurationError
from dspex.execution.retrieval.words import words_of
from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.chunk_search import (
    DenseRanking,
    Ranking,
    Snapshot,
    bound,
)
from dspex.operations.storage.chunk_tables import search_table
from dspex.operations.storage.conditions import conditions_sql, postgres_condition
from dspex.operations.storage.database import Database
from dspex.operations.storage.exact_search import ExactSearch
from dspex.operations.storage.memory_cache import MemoryCache

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray

HNSW_FROM: Final = 10_000
"""An index of so many chunks gets an HNSW index; a smaller one is searched exactly."""
PGVECTOR: Final = (
    "without the extension pgvector, all vectors are compared in this process. A superuser of the "
    "database can change that with `CREATE EXTENSION vector`; then run `dspex collection rebuild`"
)
_MAX_EXACT: Final = 10_000  # chunks that pass a filter and are ranked exactly
_MAX_WITHOUT: Final = 500_000  # chunks of a collection that is searched without pgvector
_MAX_VECTOR, _MAX_HALF = 2_000, 4_000  # dimensions that HNSW indexes of the two types can have
_BUILD_SECONDS: Final = 3_600.0
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
_SCAN: Final = (
    "SELECT set_config('hnsw.ef_search', '100', true), "
    "set_config('hnsw.iterative_scan', 'strict_order', true), "
    "set_config('hnsw.max_scan_tuples', '40000', true), "
    "set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true), set_config('enable_sort', 'off', true)"
)
_VISIBLE: Final = "FROM {table} AS s JOIN documents AS d ON d.version_id = s.version_id WHERE true"


class PostgresSearch:
    """A table for each index, with words, metadata and vectors of its chunks.

    A filter is never applied to what an index happened to find first: the scan of HNSW goes on
    until enough chunks pass, and few chunks that pass are ranked exactly.
    """

    def __init__(self, database: Database, cache: MemoryCache) -> None:
        """Take the database, and the vectors in memory for databases without pgvector."""
        self._database = database
        self._exact = ExactSearch(cache, postgres_condition, list_function="json_agg")

    async def create(self, connection: AsyncConnection, index: Index) -> None:
        """Make the table; see `ChunkSearch.create`."""
        name = search_table(index.id)
        await connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {name} (chunk_id bigint PRIMARY KEY REFERENCES chunks "
            "ON DELETE CASCADE, version_id uuid NOT NULL, metadata jsonb NOT NULL, "
            "words tsvector NOT NULL)"
        )
        for column, method in (("words", ""), ("metadata", " jsonb_path_ops")):
            await connection.exec_driver_sql(
                f"CREATE INDEX IF NOT EXISTS {name}_{column} ON {name} USING gin ({column}{method})"
            )
        if index.dimensions is not None and await self._has_extension(connection):
            await connection.exec_driver_sql(
                f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS embedding vector({index.dimensions})"
            )

    async def add(self, connection: AsyncConnection, index: Index, *, after: int) -> None:
        """Add new chunks; see `ChunkSearch.add`."""
        import numpy as np

        name, configuration = search_table(index.id), _configuration(index)
        source, values, column, value = "chunks AS c", dict[str, Any](after=after), "", ""
        if await self._has_vectors(connection, index):
            new = "SELECT id, vector FROM chunks WHERE index_id = :index_id AND id > :after"
            rows = (await connection.execute(bound(new, index, values))).all()
            source += (
                " JOIN unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS v (id, number) "
                "ON v.id = c.id"
            )
            numbers = np.frombuffer(b"".join(row[1] for row in rows), dtype="<f4")
            values |= {"ids": [row[0] for row in rows], "numbers": numbers.tolist()}
            size = index.dimensions  # an array of numbers is read faster than texts of vectors
            part = f"[(v.number - 1) * {size} + 1 : v.number * {size}]"
            column, value = ", embedding", f", CAST((CAST(:numbers AS real[])){part} AS vector)"
        sql = (
            f"INSERT INTO {name} (chunk_id, version_id, metadata, words{column}) "
            f"SELECT c.id, c.version_id, c.metadata, to_tsvector('{configuration}', c.text){value} "
            f"FROM {source} WHERE c.index_id = :index_id AND c.id > :after"
        )
        await connection.execute(bound(sql, index, values))

    async def remove(
        self, connection: AsyncConnection, index_id: UUID, version_ids: Sequence[UUID]
    ) -> None:
        """Do nothing: rows are deleted with their chunks."""

    async def drop(self, connection: AsyncConnection, index_id: UUID) -> None:
        """Drop the table; see `ChunkSearch.drop`."""
        await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {search_table(index_id)}")

    async def finish(self, index: Index, *, has_removals: bool) -> None:
        """Count rows for the planner, and make an HNSW index of a large table."""
        del has_removals  # autovacuum erases them
        name = search_table(index.id)
        async with self._database.autocommit() as connection:
            await connection.exec_driver_sql(f"ANALYZE {name}, documents, chunks")
            if not await self._has_vectors(connection, index):
                return
            count = await connection.exec_driver_sql(f"SELECT count(*) FROM {name}")
            if count.scalar_one() < HNSW_FROM or (index.dimensions or 0) > _MAX_HALF:
                return
            driver: Any = (await connection.get_raw_connection()).driver_connection
            # reads go on while it is made; writes to this collection wait
            await driver.execute("SET maintenance_work_mem = '512MB'")
            await driver.execute(
                f"CREATE INDEX IF NOT EXISTS {name}_hnsw ON {name} "
                f"USING hnsw (({_key(index)}) {_type(index)}_ip_ops)",
                timeout=_BUILD_SECONDS,
            )
            await driver.execute("RESET maintenance_work_mem")

    async def lexical(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> Ranking:
        """Return the best chunks by their words; see `ChunkSearch.lexical`."""
        del snapshot
        words = " | ".join(f"'{word}'" for word in words_of(query.text or ""))
        if not words:
            return []
        conditions, values = conditions_sql(query.where, "s.metadata", postgres_condition)
        rank = f"ts_rank_cd(s.words, to_tsquery('{_configuration(query.index)}', :words), 2)"
        sql = (
            f"SELECT s.chunk_id, {rank} AS rank {_visible(query.index)} "
            f"AND s.words @@ to_tsquery('{_configuration(query.index)}', :words){conditions} "
            "ORDER BY rank DESC, s.chunk_id LIMIT :most"
        )
        page = {**values, "words": words, "most": query.limit}
        rows = await connection.execute(bound(sql, query.index, page))
        return [(row[0], row[1]) for row in rows]

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> DenseRanking:
        """Return the best chunks by their vectors; see `ChunkSearch.dense`."""
        if query.vector is None or query.index.dimensions is None:
            return DenseRanking(ranking=[], scanned=0)
        if not await self._has_vectors(connection, query.index):
            if snapshot.chunks > _MAX_WITHOUT:
                raise ConfigurationError(
                    f"{snapshot.chunks} chunks are too many for an exact search: {PGVECTOR}"
                )
            return await self._exact.dense(connection, query, snapshot)
        conditions, values = conditions_sql(query.where, "s.metadata", postgres_condition)
        vector = {"vector": vector_text(query.vector)}
        if not await self._has_hnsw(connection, query.index):
            return await self._ranked(connection, query, conditions, {**values, **vector})
        if query.where:
            sql = (
                f"SELECT count(*) FROM (SELECT 1 {_visible(query.index)}{conditions} "
                f"LIMIT {_MAX_EXACT + 1}) AS matches"
            )
            count = (await connection.execute(bound(sql, query.index, values))).scalar_one()
            if count <= _MAX_EXACT:
                return await self._ranked(connection, query, conditions, {**values, **vector})
        await connection.exec_driver_sql(_SCAN)
        sql = (
            f"SELECT s.chunk_id, -({_key(query.index)} <#> {_bound_vector(query.index)}) "
            f"{_visible(query.index)}{conditions} "
            f"ORDER BY {_key(query.index)} <#> {_bound_vector(query.index)} LIMIT :most"
        )
        page = {**values, **vector, "most": query.limit}
        rows = (await connection.execute(bound(sql, query.index, page))).all()
        if len(rows) < min(query.limit, snapshot.chunks):
            # the scan has ended early; an exact one finds what there is
            return await self._ranked(connection, query, conditions, {**values, **vector})
        return DenseRanking(ranking=[(row[0], row[1]) for row in rows], scanned=None, exact=False)

    async def _ranked(  # noqa: PLR0917
        self,
        connection: AsyncConnection,
        query: ChunkQuery,
        conditions: str,
        values: Mapping[str, Any],
    ) -> DenseRanking:
        """Rank all chunks that pass."""
        sql = (
            "WITH passing AS MATERIALIZED (SELECT s.chunk_id, "
            f"-(s.embedding <#> CAST(CAST(:vector AS text) AS vector)) AS score "
            f"{_visible(query.index)}{conditions}) "
            "SELECT chunk_id, score, (SELECT count(*) FROM passing) FROM passing "
            "ORDER BY score DESC, chunk_id LIMIT :most"
        )
        rows = (
            await connection.execute(bound(sql, query.index, {**values, "most": query.limit}))
        ).all()
        return DenseRanking(
            ranking=[(row[0], row[1]) for row in rows], scanned=rows[0][2] if rows else 0
        )

    async def _has_extension(self, connection: AsyncConnection) -> bool:
        sql = "SELECT 1 FROM pg_extension WHERE extname = 'vector'"
        return (await connection.exec_driver_sql(sql)).first() is not None

    async def _has_vectors(self, connection: AsyncConnection, index: Index) -> bool:
        sql = (
            "SELECT 1 FROM pg_attribute WHERE attname = 'embedding' AND NOT attisdropped "
            f"AND attrelid = to_regclass('{search_table(index.id)}')"
        )
        return (await connection.exec_driver_sql(sql)).first() is not None

    async def _has_hnsw(self, connection: AsyncConnection, index: Index) -> bool:
        sql = f"SELECT to_regclass('{search_table(index.id)}_hnsw')"
        return (await connection.exec_driver_sql(sql)).scalar_one() is not None


def vector_text(vector: "NDArray[numpy.float32]") -> str:
    """Return a vector as pgvector reads it."""
    return str(vector.tolist())


def _configuration(index: Index) -> str:
    return _CONFIGURATIONS.get(index.language, "simple")


def _visible(index: Index) -> str:
    return _VISIBLE.format(table=search_table(index.id))


def _type(index: Index) -> str:
    return "vector" if (index.dimensions or 0) <= _MAX_VECTOR else "halfvec"


def _key(index: Index) -> str:
    """Return what an HNSW index is about; it has no vectors of many dimensions in full."""
    if _type(index) == "vector":
        return "embedding"
    return f"CAST(embedding AS halfvec({index.dimensions}))"


def _bound_vector(index: Index) -> str:
    return f"CAST(CAST(:vector AS text) AS {_type(index)})"
