"""Vectors of one index in PostgreSQL, searched by pgvector, where no memory is large enough."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.chunk_search import DenseRanking, Ranking, bound
from dspex.operations.storage.chunk_tables import search_table
from dspex.operations.storage.conditions import conditions_sql, postgres_condition
from dspex.operations.storage.database import Database

_MAX_VECTOR, _MAX_HALF = 2_000, 4_000  # dimensions that HNSW indexes of the two types can have
_BUILD_SECONDS: Final = 3_600.0
_AT_ONCE: Final = 1_000
_SCAN: Final = (
    "SELECT set_config('hnsw.ef_search', '100', true), "
    "set_config('hnsw.iterative_scan', 'strict_order', true), "
    "set_config('hnsw.max_scan_tuples', '40000', true), "
    "set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true), set_config('enable_sort', 'off', true)"
)


class PostgresVectors:
    """A table with the vectors of an index, and an HNSW index of it.

    It is made when an index has grown too large for the memory, in bulk, because HNSW takes single
    vectors slowly; from then on each new chunk is added. A search under a filter does not filter
    what the index happened to find first: the scan goes on until enough chunks pass.
    """

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    async def add(self, connection: AsyncConnection, index: Index, *, after: int) -> None:
        """Add the vectors of new chunks if there is a table.

        The transaction has written to the table of words before: `build` waits for it.
        """
        if index.dimensions is not None and await self._exists(connection, _table(index)):
            await self._copy(connection, index, after=after, limit=None)

    async def drop(self, connection: AsyncConnection, index_id: UUID) -> None:
        """Drop the table."""
        await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {search_table(index_id)}_vectors")

    async def build(self, index: Index) -> None:
        """Make the table and its HNSW index, if the database has the extension."""
        if not 0 < (index.dimensions or 0) <= _MAX_HALF:
            return
        async with self._database.writing() as connection:
            sql = "SELECT 1 FROM pg_extension WHERE extname = 'vector'"
            if (await connection.exec_driver_sql(sql)).first() is None:
                return
            await connection.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS {_table(index)} (chunk_id bigint PRIMARY KEY "
                "REFERENCES chunks ON DELETE CASCADE, version_id uuid NOT NULL, "
                f"embedding vector({index.dimensions}) NOT NULL)"
            )
            # whoever has not seen the table has committed then, and its chunks are copied next
            lock = f"LOCK TABLE {search_table(index.id)} IN SHARE MODE"
            await connection.exec_driver_sql(lock)
        await self._fill(index)
        async with self._database.autocommit() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("SET maintenance_work_mem = '512MB'")
            await driver.execute(
                f"CREATE INDEX IF NOT EXISTS {_hnsw(index)} ON {_table(index)} "
                f"USING hnsw (({_key(index)}) {_type(index)}_ip_ops)",
                timeout=_BUILD_SECONDS,
            )
            await driver.execute("RESET maintenance_work_mem")
            await connection.exec_driver_sql(f"ANALYZE {_table(index)}")

    async def _fill(self, index: Index) -> None:
        """Copy the vectors of all chunks that are not in the table."""
        after: int | None = 0
        while after is not None:
            async with self._database.writing() as connection:
                after = await self._copy(connection, index, after=after, limit=_AT_ONCE)

    async def _copy(
        self, connection: AsyncConnection, index: Index, *, after: int, limit: int | None
    ) -> int | None:
        """Copy vectors of chunks with later ids, and return the last id; None: there is none."""
        import numpy as np

        table, size = _table(index), index.dimensions
        sql = (
            "SELECT c.id, c.version_id, c.vector FROM chunks AS c "
            "WHERE c.index_id = :index_id AND c.id > :after "
            f"AND NOT EXISTS (SELECT 1 FROM {table} AS v WHERE v.chunk_id = c.id) "
            "ORDER BY c.id LIMIT :most FOR KEY SHARE OF c"
        )
        page = {"after": after, "most": limit}
        rows = (await connection.execute(bound(sql, index, page))).all()
        if not rows:
            return None
        numbers = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4")
        # an array of numbers is read faster than texts of vectors
        part = f"[(v.number - 1) * {size} + 1 : v.number * {size}]"
        sql = (
            f"INSERT INTO {table} (chunk_id, version_id, embedding) "
            f"SELECT v.id, v.version_id, CAST((CAST(:numbers AS real[])){part} AS vector) "
            "FROM unnest(CAST(:ids AS bigint[]), CAST(:versions AS uuid[])) "
            "WITH ORDINALITY AS v (id, version_id, number) ON CONFLICT DO NOTHING"
        )
        values = {
            "ids": [row[0] for row in rows],
            "versions": [row[1] for row in rows],
            "numbers": numbers.tolist(),
        }
        await connection.execute(bound(sql, index, values))
        last: int = rows[-1][0]
        return last

    async def has_index(self, connection: AsyncConnection, index: Index) -> bool:
        """Return whether there is an HNSW index."""
        return await self._exists(connection, _hnsw(index))

    async def _exists(self, connection: AsyncConnection, name: str) -> bool:
        sql = f"SELECT to_regclass('{name}')"
        return (await connection.exec_driver_sql(sql)).scalar_one() is not None

    async def scan(self, connection: AsyncConnection, query: ChunkQuery) -> Ranking:
        """Return what the index finds, most likely the best; fewer if the scan ends early."""
        await connection.exec_driver_sql(_SCAN)
        distance = f"{_key(query.index)} <#> {_bound_vector(query.index)}"
        source, values = _visible(query)
        sql = f"SELECT v.chunk_id, -({distance}) {source} ORDER BY {distance} LIMIT :most"
        page = {**values, "vector": _vector_text(query), "most": query.limit}
        rows = await connection.execute(bound(sql, query.index, page))
        return [(row[0], row[1]) for row in rows]

    async def rank(
        self, connection: AsyncConnection, query: ChunkQuery, *, ids: Sequence[int] | None
    ) -> DenseRanking:
        """Return the best of some chunks exactly; None: of all that pass."""
        if ids is None:
            source, values = _visible(query)
        else:
            # a table with few chunks beside these would be read as a whole
            await connection.exec_driver_sql("SELECT set_config('enable_seqscan', 'off', true)")
            source = f"FROM {_table(query.index)} AS v WHERE v.chunk_id = ANY(:ids)"
            values = {"ids": ids}
        # as a query, it is read once and not for each row
        score = "-(v.embedding <#> (SELECT CAST(CAST(:vector AS text) AS vector)))"
        sql = (
            f"WITH passing AS MATERIALIZED (SELECT v.chunk_id, {score} AS score {source}) "
            "SELECT chunk_id, score, (SELECT count(*) FROM passing) FROM passing "
            "ORDER BY score DESC, chunk_id LIMIT :most"
        )
        page = {**values, "vector": _vector_text(query), "most": query.limit}
        rows = (await connection.execute(bound(sql, query.index, page))).all()
        ranking = [(row[0], row[1]) for row in rows]
        return DenseRanking(ranking=ranking, scanned=rows[0][2] if rows else 0)


def _visible(query: ChunkQuery) -> tuple[str, Mapping[str, Any]]:
    """Return the source of the chunks that a search sees and that meet its conditions."""
    conditions, values = conditions_sql(query.where, "s.metadata", postgres_condition)
    source = f"FROM {_table(query.index)} AS v JOIN documents AS d ON d.version_id = v.version_id"
    if conditions:
        source += f" JOIN {search_table(query.index.id)} AS s ON s.chunk_id = v.chunk_id"
    return f"{source} WHERE true{conditions}", values


def _table(index: Index) -> str:
    return f"{search_table(index.id)}_vectors"


def _hnsw(index: Index) -> str:
    return f"{search_table(index.id)}_hnsw"


def _vector_text(query: ChunkQuery) -> str:
    """Return the vector of a query as pgvector reads it."""
    return "[]" if query.vector is None else str(query.vector.tolist())


def _type(index: Index) -> str:
    return "vector" if (index.dimensions or 0) <= _MAX_VECTOR else "halfvec"


def _key(index: Index) -> str:
    """Return what an HNSW index is about; it has no vectors of many dimensions in full."""
    if _type(index) == "vector":
        return "embedding"
    return f"CAST(embedding AS halfvec({index.dimensions}))"


def _bound_vector(index: Index) -> str:
    return f"CAST(CAST(:vector AS text) AS {_type(index)})"
