"""`kill -9` at any point of an ingestion or a rebuild loses and doubles nothing."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import open_services
from dspex.operations.collections.records import DOCUMENT, INGESTION
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query
from dspex.settings import Settings

ROOT = Path(__file__).parents[3]
AT_ONCE = 2  # chunks that the child embeds and stores together
POINTS = range(2, 62, 3)


class Scene:
    """A collection whose jobs run in processes that are killed."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.log = folder / "embedded"

    async def perform(self, action_name: str, /, **values: Any) -> Any:
        action = next(each for each in DOMAIN.actions if each.name == action_name)
        async with open_services(self.settings) as services:
            return await services.operations.perform(action, action.input(**values))

    async def kill_and_finish(self, call: int) -> None:
        """Let a process work until it is killed at a call, and another one finish."""
        self._run(call)
        await self.check_visible()
        self._run(0)
        async with open_services(self.settings) as services:
            jobs = await services.operations.store.select(INGESTION, Query())
        assert {(job.status, str(job.error)) for job in jobs} == {("completed", "None")}
        await self.check_visible()

    def _run(self, call: int) -> None:
        url = self.settings.database_url
        arguments = [str(self.settings.state_dir), str(self.log), str(call)]
        child = subprocess.run(
            [
                *(sys.executable, "-m", "tests.operations.collections.child", *arguments),
                *([] if url is None else [url.reveal()]),
            ],
            cwd=ROOT,
            check=False,
        )
        assert child.returncode in {0, -signal.SIGKILL}

    async def check_visible(self) -> None:
        """Every document has all chunks of one text in both rankings, and none twice."""
        async with open_services(self.settings) as services:
            rows = await services.operations.store.select(DOCUMENT, Query(limit=100))
        expected = {row.key: row.chunks for row in rows}
        for mode in ("lexical", "dense"):
            values = {"query": "word", "k": 1000, "mode": mode}
            result = await self.perform("search_collection", collection="handbook", **values)
            counts = Counter(passage["document"] for passage in result.passages)
            assert counts == expected
            assert result.collection.chunks == sum(expected.values())
            assert result.collection.documents == len(expected)

    async def texts(self) -> dict[str, str]:
        values = {"collection": "handbook", "query": "word", "mode": "whole"}
        result = await self.perform("search_collection", **values)
        return {passage["document"]: passage["text"] for passage in result.passages}

    @property
    def repeated(self) -> int:
        """How many texts were embedded again."""
        counts = Counter(self.log.read_text().splitlines())
        return sum(count - 1 for count in counts.values())


def handbook(word: str, changed: int) -> dict[str, str]:
    """Return seven documents of three chunks; the first `changed` have another second part."""
    return {
        f"d{n}": "\n\n".join(
            f"{word if n < changed and part == 1 else 'old'} {n} {part} {'word ' * 110}"
            for part in range(3)
        )
        for n in range(7)
    }


@pytest.mark.full
@pytest.mark.parametrize(
    "call", [11, *(pytest.param(call, marks=pytest.mark.slow) for call in POINTS if call != 11)]
)
async def test_a_killed_ingestion_is_finished_by_another_process(
    call: int, on_each_database: Settings, tmp_path: Path
) -> None:
    scene = Scene(on_each_database, tmp_path)
    await scene.perform("create_collection", name="handbook", embedder="hash")
    for texts in (handbook("old", 0), handbook("new", 4)):
        documents = [{"key": key, "text": text} for key, text in texts.items()]
        await scene.perform("add_documents", collection="handbook", documents=documents)
        await scene.kill_and_finish(call)
        assert await scene.texts() == texts
    assert scene.repeated <= 2 * AT_ONCE  # what the killed processes had in their hands
    before = scene.repeated
    await scene.perform(
        "rebuild_collection", name="handbook", chunking={"method": "sentences", "tokens": 100}
    )
    await scene.kill_and_finish(call)
    assert await scene.texts() == handbook("new", 4)
    assert scene.repeated - before <= AT_ONCE
