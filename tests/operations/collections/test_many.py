"""Many tiny documents: what a process holds does not grow with their number."""

from pathlib import Path

import pytest

from tests.operations.collections.conftest import OpenDesk

MANY, AT_ONCE = 100_000, 10_000
MOST_GROWTH = 32 * 1024 * 1024
PAGE = 4096


def resident() -> int:
    """Return the bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.slow
async def test_the_memory_of_an_ingestion_is_bounded(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="none")
        sizes = []
        for first in range(0, MANY, AT_ONCE):
            documents = [
                {"key": f"d{number}", "text": f"lamp {number}"}
                for number in range(first, first + AT_ONCE)
            ]
            job = await desk.perform("add_documents", collection="handbook", documents=documents)
            assert (job.status, job.documents, job.chunks) == ("completed", AT_ONCE, AT_ONCE)
            sizes.append(resident())
        assert sizes[-1] - sizes[1] < MOST_GROWTH, sizes
        assert await desk.keys("handbook", f"{MANY - 1}", mode="lexical") == [f"d{MANY - 1}"]
        result = await desk.perform("search_collection", collection="handbook", query="lamp")
        assert result.collection.documents == MANY
