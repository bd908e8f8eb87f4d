"""Collections: create, add, search, delete, rebuild; on SQLite and PostgreSQL."""

from typing import Any

import pytest

from dspex.errors import ConflictError, InvalidError, NotFoundError
from tests.operations.collections.conftest import OpenDesk, documents

LAMPS = documents(
    returns="A lamp can be returned within thirty days.",
    delivery="Deliveries take three days and cost nothing.",
    warranty="The warranty of a chair lasts two years.",
)


async def test_documents_are_found_by_their_words(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="none", language="en")
        job = await desk.perform("add_documents", collection="handbook", documents=LAMPS)
        assert (job.status, job.error, job.chunks) == ("completed", None, 3)
        assert await desk.keys("handbook", "returning lamps") == ["returns"]
        collection = (
            await desk.perform("search_collection", collection="handbook", query="chair")
        ).collection
        assert (collection.documents, collection.chunks, collection.revision) == (3, 3, 1)


async def test_documents_are_found_by_their_vectors(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="hash")
        job = await desk.perform("add_documents", collection="handbook", documents=LAMPS)
        assert (job.status, job.error) == ("completed", None)
        result = await desk.perform(
            "search_collection",
            collection="handbook",
            query="The warranty of a chair",
            mode="dense",
            k=2,
        )
        assert next(passage["document"] for passage in result.passages) == "warranty"
        assert (result.exact, result.scanned, len(result.passages)) == (True, 3, 2)
        passage = result.passages[0]
        text = LAMPS[2]["text"]
        assert text[passage["start"] : passage["end"]] == passage["text"]
        assert await desk.keys("handbook", "lamp returned", mode="hybrid", k=1) == ["returns"]


async def test_a_deleted_document_is_gone_from_every_ranking(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="hash")
        await desk.perform("add_documents", collection="handbook", documents=LAMPS)
        assert await desk.keys("handbook", "lamp", mode="lexical") == ["returns"]
        assert "returns" in await desk.keys("handbook", "lamp", mode="dense")
        result = await desk.perform("delete_documents", collection="handbook", keys=["returns"])
        assert (result.deleted, result.unknown, result.collection.documents) == (1, [], 2)
        again = await desk.perform(
            "delete_documents", collection="handbook", keys=["returns", "nobody"]
        )
        assert (again.deleted, again.unknown) == (0, ["nobody", "returns"])
        assert again.collection.revision == result.collection.revision
        for mode in ("lexical", "dense", "hybrid", "whole"):
            assert "returns" not in await desk.keys("handbook", "lamp", mode=mode)


async def test_a_rebuild_flips_to_another_embedder_and_chunking(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="hash")
        await desk.perform("add_documents", collection="handbook", documents=LAMPS)
        job = await desk.perform(
            "rebuild_collection",
            name="handbook",
            embedder="hash/32",
            chunking={"method": "sentences", "tokens": 20},
        )
        assert (job.status, job.error) == ("completed", None)
        result = await desk.perform(
            "search_collection", collection="handbook", query="lamp returned", k=1
        )
        collection = result.collection
        assert (collection.embedder, collection.dimensions) == ("hash/32", 32)
        assert collection.chunking["method"] == "sentences"
        assert [passage["document"] for passage in result.passages] == ["returns"]
        await desk.perform("add_documents", collection="handbook", documents=documents(new="lamp"))
        assert sorted(await desk.keys("handbook", "lamp", mode="lexical")) == ["new", "returns"]


async def test_a_deleted_collection_leaves_nothing(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="hash")
        await desk.perform("add_documents", collection="handbook", documents=LAMPS)
        result = await desk.perform("delete_collection", name="handbook")
        assert (result.name, result.documents) == ("handbook", 3)
        with pytest.raises(NotFoundError):
            await desk.keys("handbook", "lamp")
        assert await _tables(desk.services) == []
        await desk.perform("create_collection", name="handbook", embedder="hash")
        assert await desk.keys("handbook", "lamp") == []


async def _tables(services: Any) -> list[str]:
    import sqlalchemy as sa

    async with services.data.reading() as connection:
        names = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        filled = [
            name
            for name in ("chunks", "documents", "document_versions", "ingestions", "collections")
            if (await connection.execute(sa.text(f"SELECT count(*) FROM {name}"))).scalar()  # noqa: S608
        ]
    return [*filled, *(name for name in names if name.startswith("chunk_search"))]


async def test_invalid_documents_are_listed_with_their_paths(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="none")
        wrong = [{"key": "a", "text": "x"}, {"key": "a", "text": "y"}, {"text": "z"}, {"key": "b"}]
        with pytest.raises(InvalidError) as error:
            await desk.perform("add_documents", collection="handbook", documents=wrong)
        paths = [field.path for field in error.value.fields]
        assert paths == ["documents[1].key", "documents[2]", "documents[3]"]
        with pytest.raises(ConflictError, match="exists already"):
            await desk.perform("create_collection", name="handbook")
