"""Collections count in the quota of their workspace, until they are deleted."""

from typing import Any

import pytest

from dspex.errors import QuotaError
from dspex.operations.executions.executor import Executor
from dspex.operations.tenancy.usage import WORKSPACE_USAGE, usage_id
from tests.operations.collections.conftest import Desk, OpenDesk, documents


async def stored(desk: Desk) -> float:
    """Return what the workspace of a desk has stored."""
    quotas = desk.operations.services[Executor].quotas
    assert quotas is not None
    await quotas.flush()
    quotas._balances.clear()  # as after a second
    row: Any = await desk.operations.dependencies.store.get(
        WORKSPACE_USAGE, id=usage_id(desk.operations.workspace)
    )
    return 0.0 if row is None else row.stored_bytes


async def test_texts_and_vectors_count_until_they_are_deleted(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="c", embedder="recording")
        texts = {"a": "lamp", "b": "a chair"}
        await desk.perform("add_documents", collection="c", documents=documents(**texts))
        assert await stored(desk) == 11 + 2 * 4 * 64
        await desk.perform("add_documents", collection="c", documents=documents(a="lamps"))
        await desk.perform("add_documents", collection="c", documents=documents(a="lamps"))
        assert await stored(desk) == 12 + 2 * 4 * 64
        await desk.perform("delete_documents", collection="c", keys=["b"])
        assert await stored(desk) == 5 + 4 * 64
        await desk.perform("rebuild_collection", name="c", embedder="hash/32")
        assert await stored(desk) == 5 + 4 * 32
        await desk.perform("create_collection", name="d", embedder="none")
        await desk.perform("add_documents", collection="d", documents=documents(a="sofa"))
        assert await stored(desk) == 9 + 4 * 32
        await desk.perform("delete_collection", name="c")
        await desk.perform("delete_collection", name="d")
        assert await stored(desk) == 0


async def test_no_documents_are_added_beyond_the_quota(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await desk.perform("create_workspace", name="team")
        await desk.perform("configure_workspace", name="team", quota_mib=1)
        team = desk.of("team")
        await team.perform("create_collection", name="c", embedder="none")
        large = documents(a="lamp " * 250_000)
        await team.perform("add_documents", collection="c", documents=large)
        assert await stored(team) == 1_250_000
        for action, values in (
            ("add_documents", {"collection": "c", "documents": documents(b="chair")}),
            ("rebuild_collection", {"name": "c"}),
        ):
            with pytest.raises(QuotaError, match="its quota_mib is 1"):
                await team.perform(action, **values)
        await team.perform("delete_documents", collection="c", keys=["a"])
        assert await stored(team) == 0
        job = await team.perform("add_documents", collection="c", documents=documents(b="chair"))
        assert job.status == "completed"
