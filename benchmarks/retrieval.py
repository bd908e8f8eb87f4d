"""Stored collections: ingestion and search, on SQLite and PostgreSQL.

    python benchmarks/retrieval.py [--quick] [--check] [--database sqlite|postgres] [--memory MIB]
    python benchmarks/retrieval.py --million [COUNT] [--check] [--database sqlite|postgres]

100,000 chunks of 384 dimensions (--quick: 20,000): embeddings of 2,000 questions of customers
(banking77) by the offline embedder, perturbed with a seed. They are made once and kept in the
temporary folder; no embedder runs while anything is measured. Chunks are added by jobs, as
`dspex collection add` does; then all of them once more, which must embed nothing. Recall is that of
the exact ranking, which NumPy computes. The first search of each kind is reported apart: it reads
into memory what later ones find there. With `--memory 128` the vectors do not fit there: PostgreSQL
searches them by HNSW, and SQLite reads them in portions.

`--million` adds a million tiny documents instead, with vectors of 16 dimensions by the embedder
that hashes words, and measures what memory that takes: it may not grow with their number. Progress
is printed, with CPU seconds, which other programs do not change.

The data is in `../shared` beside the repository, or in DSPEX_SHARED.
"""

import argparse
import asyncio
import csv
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dspex.bootstrap import new_id, open_services
from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.retrieval.retriever import SearchMode
from dspex.language.records import Usage
from dspex.operations.collections import actions
from dspex.operations.collections.collection_storage import CollectionStorage
from dspex.operations.collections.embedders import CollectionEmbedders
from dspex.operations.collections.inputs import AddDocuments, CreateCollection, SearchCollection
from dspex.operations.collections.jobs import IngestionHandler
from dspex.operations.collections.records import INGESTION
from dspex.operations.domain import QUEUES
from dspex.operations.framework.operations import Operations
from dspex.operations.jobs import JobPolicy, JobRows, JobRunner
from dspex.settings import Secret, Settings
from dspex.testing.postgres import PostgresServer

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("DSPEX_SHARED", HERE.parents[1] / "shared"))
DIMENSIONS, K, AT_ONCE = 384, 10, 5_000
TINY_AT_ONCE, TINY_DIMENSIONS, MOST_GROWTH_MB = 10_000, 16, 64
TINY_MODES: tuple[SearchMode, ...] = ("lexical", "dense", "hybrid")
FIRST = 5  # searches that are not counted
P95_MS = {"sqlite": 60.0, "postgres": 20.0}
RARE: Mapping[str, Any] = {"percent": 7}
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "dense": {"mode": "dense"},
    "lexical": {"mode": "lexical"},
    "hybrid": {"mode": "hybrid"},
    "dense, 1% pass": {"mode": "dense", "where": RARE},
    "hybrid, 1% pass": {"mode": "hybrid", "where": RARE},
}


def questions(count: int = 2_000) -> list[str]:
    with (SHARED / "data" / "banking77" / "train.csv").open(encoding="utf-8") as file:
        rows = [row["text"] for row in csv.DictReader(file)]
    return random.Random(0).sample(rows, count)


def base_vectors(texts: Sequence[str]) -> Any:
    """Return the embeddings of texts, made once on this machine."""
    file = Path(tempfile.gettempdir()) / "dspex-benchmark-retrieval.npy"
    if not file.exists():
        from dspex.models import OfflineEmbedder

        vectors = asyncio.run(OfflineEmbedder().embed(texts)).vectors
        part = file.with_suffix(".part.npy")
        np.save(part, vectors)
        part.rename(file)
    return np.load(file)


class StoredVectors:
    """An embedder whose texts end with the number of their vector."""

    name, dimensions, fingerprint = "stored", DIMENSIONS, "stored"

    def __init__(self, documents: Any, queries: Any) -> None:
        self.vectors = {"document": documents, "query": queries}

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        numbers = [int(text.rpartition(" ")[2]) for text in texts]
        usage = Usage(calls=1, input_tokens=len(texts))
        return Embeddings(vectors=self.vectors[kind][numbers], usage=usage, model=self.name)

    async def aclose(self) -> None:
        pass


class OneEmbedder:
    default = "stored"

    def __init__(self, embedder: Embedder) -> None:
        self.embedder_of_all = embedder

    async def embedder(self, _workspace: str, _name: str) -> Embedder:
        return self.embedder_of_all


def perturbed(base: Any, count: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    rows = base[generator.integers(0, len(base), count)]
    noise = generator.standard_normal(rows.shape, dtype=np.float32) / np.sqrt(DIMENSIONS)
    vectors = rows + 0.5 * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Side:
    """One database with a collection of all chunks."""

    def __init__(self, settings: Settings, texts: Sequence[str], vectors: tuple[Any, Any]) -> None:
        self.settings = settings
        self.texts = texts
        self.documents, self.queries = vectors

    async def measure(self, *, tiny: int | None) -> dict[str, float]:
        vectors = StoredVectors(self.documents, self.queries)
        async with self.session(HashingEmbedder(TINY_DIMENSIONS) if tiny else vectors):
            if tiny:
                return await self.add_tiny(tiny)
            return {**await self.add(), **await self.searches()}

    @asynccontextmanager
    async def session(self, embedder: Embedder) -> AsyncIterator[None]:
        """Open the database in this process; all collections have this embedder."""
        async with open_services(self.settings) as services:
            embedders = OneEmbedder(embedder)
            dependencies = services.operations.dependencies.with_services(
                {CollectionEmbedders: embedders}
            )
            self.operations = Operations(dependencies)
            policy = JobPolicy(queues=QUEUES)
            rows = JobRows(
                dependencies.store,
                policy=policy,
                clock=dependencies.clock,
                new_id=new_id,
                worker="benchmark",
            )
            storage = dependencies.services[CollectionStorage]
            handler = IngestionHandler(dependencies.store, storage, embedders)
            self.runner = JobRunner(rows, handlers={"ingestion": handler}, policy=policy)
            yield

    async def searches(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        for name, values in SEARCHES.items():
            figures |= await self.search(name, **values)
        return figures

    async def add(self) -> dict[str, float]:
        collection = CreateCollection(name="benchmark", language="en")
        await self.operations.perform(actions.create_collection, collection)
        seconds, embedded = [], []
        for _ in ("new", "unchanged"):
            start = time.perf_counter()
            jobs = [await self.add_part(first) for first in range(0, len(self.documents), AT_ONCE)]
            seconds.append(time.perf_counter() - start)
            embedded.append(sum(job.embedded_chunks for job in jobs))
        assert embedded == [len(self.documents), 0], embedded
        print(f"{len(self.documents)} chunks are stored", flush=True)
        return {
            "added, chunks a second": len(self.documents) / seconds[0],
            "unchanged, chunks a second": len(self.documents) / seconds[1],
        }

    async def add_part(self, first: int) -> Any:
        return await self.add_documents(
            [
                {
                    "key": str(number),
                    "text": f"{self.texts[number % len(self.texts)]} {number}",
                    "metadata": {"percent": number % 100},
                }
                for number in range(first, min(first + AT_ONCE, len(self.documents)))
            ]
        )

    async def add_tiny(self, count: int) -> dict[str, float]:
        """Add documents of two words, and search them."""
        collection = CreateCollection(name="benchmark", embedder="hash")
        await self.operations.perform(actions.create_collection, collection)
        sizes, start, cpu = [], time.perf_counter(), time.process_time()
        for first in range(0, count, TINY_AT_ONCE):
            await self.add_documents(
                [
                    {"key": str(number), "text": f"lamp {number}"}
                    for number in range(first, min(first + TINY_AT_ONCE, count))
                ]
            )
            sizes.append(peak_mb())
            if len(sizes) % 10 == 0:
                seconds, used = time.perf_counter() - start, time.process_time() - cpu
                print(
                    f"{len(sizes) * TINY_AT_ONCE} documents: {seconds:.0f} s, {used:.0f} s of CPU, "
                    f"{sizes[-1]:.1f} MB",
                    flush=True,
                )
        seconds, used = time.perf_counter() - start, time.process_time() - cpu
        for query in (f"{count - 1}", "lamp"):
            for mode in TINY_MODES:
                request = SearchCollection(collection="benchmark", query=query, mode=mode)
                result = await self.operations.perform(actions.search_collection, request)
                assert result.collection.documents == count, result.collection
                assert result.passages, (query, mode)
        return {
            "seconds": seconds,
            "CPU seconds of this process": used,
            "chunks a second": count / seconds,
            "memory after 20,000, MB": sizes[min(1, len(sizes) - 1)],
            "memory after all, MB": sizes[-1],
            "memory after searches, MB": peak_mb(),
        }

    async def add_documents(self, documents: list[dict[str, Any]]) -> Any:
        request = AddDocuments(collection="benchmark", documents=documents)
        job = await self.operations.perform(actions.add_documents, request)
        await self.runner.run("ingestion", job.id, job.turn)
        job = await self.operations.row(INGESTION, job.id)
        assert job.status == "completed", job.error
        return job

    async def search(self, name: str, **values: Any) -> dict[str, float]:
        times, keys, is_exact = [], list[set[int]](), True
        for number in range(-FIRST, len(self.queries)):
            query = f"{self.texts[number]} {max(number, 0)}"
            request = SearchCollection(collection="benchmark", query=query, k=K, **values)
            start = time.perf_counter()
            result = await self.operations.perform(actions.search_collection, request)
            times.append((time.perf_counter() - start) * 1e3)
            is_exact = is_exact and result.exact
            keys.append({int(passage["document"]) for passage in result.passages})
        figures = {
            f"{name}, first ms": times[0],
            f"{name}, p50 ms": statistics.median(times[FIRST:]),
            f"{name}, p95 ms": statistics.quantiles(times[FIRST:], n=20)[-1],
        }
        if values["mode"] == "dense":  # later, as threads of NumPy spin for a while
            recalls = [
                len(passages & self.nearest(number, values.get("where"))) / K
                for number, passages in enumerate(keys[FIRST:])
            ]
            figures |= {
                f"{name}, recall@{K}": statistics.mean(recalls),
                f"{name}, exact": float(is_exact),
            }
        return figures

    def nearest(self, number: int, where: Mapping[str, int] | None) -> set[int]:
        step, first = (100, where["percent"]) if where else (1, 0)
        scores = self.documents[first::step] @ self.queries[number]
        return {int(n) * step + first for n in np.argpartition(scores, -K)[-K:]}


def peak_mb() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def problems_of_tiny(database: str, figures: Mapping[str, float]) -> list[str]:
    growth = figures["memory after all, MB"] - figures["memory after 20,000, MB"]
    text = f"{database}: memory grows by less than {MOST_GROWTH_MB} MB while documents are added"
    return [text] if growth > MOST_GROWTH_MB else []


def problems(database: str, figures: Mapping[str, float]) -> list[str]:
    rare, limit = "dense, 1% pass", P95_MS[database]
    checks = {
        f"p95 of {name} is at most {limit:g} ms": figures[f"{name}, p95 ms"] <= limit
        for name in SEARCHES
    }
    checks |= {
        "recall is at least 0.95": figures[f"dense, recall@{K}"] >= 0.95,
        "a filter has recall 1.0, or says that it is not exact": figures[f"{rare}, exact"] == 0
        or figures[f"{rare}, recall@{K}"] == 1,
    }
    return [f"{database}: {text}" for text, is_true in checks.items() if not is_true]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--database", choices=["sqlite", "postgres"])
    parser.add_argument("--memory", type=int, default=512, help="search_memory_mib")
    parser.add_argument("--million", type=int, nargs="?", const=1_000_000, metavar="COUNT")
    options = parser.parse_args()
    count, searches = (20_000, 100) if options.quick else (100_000, 400)
    texts = questions()
    base = base_vectors(texts)
    stored = 1 if options.million else count
    vectors = perturbed(base, stored, 1), perturbed(base, searches, 2)
    failures: list[str] = []
    results: dict[str, Any] = {"chunks": options.million or count, "memory": options.memory}
    with tempfile.TemporaryDirectory() as folder, PostgresServer(is_durable=True) as server:
        settings = Settings(
            state_dir=Path(folder),
            cache_dir=Path(folder) / "cache",
            search_memory_mib=options.memory,
        )
        url = server.url(server.make())
        sides = {"sqlite": settings, "postgres": replace(settings, database_url=Secret(url))}
        for database, side in sides.items():
            if options.database not in {None, database}:
                continue
            asyncio.run(migrated(side))
            figures = asyncio.run(Side(side, texts, vectors).measure(tiny=options.million))
            print(f"\n{database}, {options.million or count} chunks")
            for name, value in figures.items():
                print(f"  {name:28} {value:10.3f}")
            failures += (problems_of_tiny if options.million else problems)(database, figures)
            results[database] = figures
    folder_of_results = HERE / "results"
    folder_of_results.mkdir(exist_ok=True)
    file = folder_of_results / f"retrieval{'_million' if options.million else ''}.json"
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(*(f"NOT REACHED: {failure}" for failure in failures), sep="\n")
    return 1 if options.check and failures else 0


async def migrated(settings: Settings) -> None:
    from dspex.bootstrap import migrate_database

    await migrate_database(settings)


if __name__ == "__main__":
    sys.exit(main())
