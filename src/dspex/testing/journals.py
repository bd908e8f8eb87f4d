"""The suite that every journal of searches has to pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import dspex
from dspex.learning.evaluation import Dataset, exact_match
from dspex.learning.optimizers import Journal, LabeledFewShot, Outcome, Search, aoptimize
from dspex.learning.optimizers.journal import Entry, MemoryJournal
from dspex.testing.simulated import SimulatedModel

_ROWS = Dataset.from_rows([{"question": f"question {n}", "answer": f"answer {n}"} for n in range(8)])


class JournalContract:
    """What `Journal` promises. Subclass it in a test module and write `opened`.

    Tests run their own event loops, one after another.
    """

    def opened(self) -> AbstractAsyncContextManager[Journal]:
        """Open the one journal of this test, as a new process would.

        It is empty when it is opened first, and afterwards holds what was appended before. It may be opened a second
        time while the first one is open.
        """
        raise NotImplementedError

    async def kept(self) -> list[Entry]:
        """Open it and return what is in it."""
        async with self.opened() as journal:
            return list(await journal.entries())

    async def append_all(self, *entries: Entry) -> None:
        """Open it and append one entry after the other."""
        async with self.opened() as journal:
            for entry in entries:
                await journal.append(entry)

    def test_a_new_one_is_empty(self) -> None:
        """And reading it changes nothing."""
        assert asyncio.run(self.kept()) == []
        assert asyncio.run(self.kept()) == []

    def test_entries_come_back_in_order_and_in_later_lives(self) -> None:
        """However often it is opened in between."""
        for start in (0, 10, 20):
            asyncio.run(self.append_all(*({"kind": "answer", "key": str(n)} for n in range(start, start + 10))))
        assert [entry["key"] for entry in asyncio.run(self.kept())] == [str(n) for n in range(30)]

    def test_any_json_comes_back_as_it_was(self) -> None:
        """Text of every language, line ends, zero characters, nesting, nulls, exact numbers, large entries."""
        entries: list[dict[str, Any]] = [
            {"text": 'a\nb\r\n\t"c" \\ \u2028 ünï 漢字 🙂 \x00', "": ""},
            {"figures": {"accuracy": 0.1 + 0.2, "usd": None, "p95": 1e-300}, "n": 2**53, "is": True, "none": None},
            {"nested": [[], {}, [{"a": [1, -1, 1.5]}]], "kind": "trial"},
            {"text": "x" * 1_000_000},
            {},
        ]
        asyncio.run(self.append_all(*entries))
        assert asyncio.run(self.kept()) == entries

    def test_an_entry_is_there_for_others_as_soon_as_append_returns(self) -> None:
        """Nothing waits for the journal to be closed, so that a killed process loses nothing."""

        async def look() -> None:
            async with self.opened() as journal:
                for number in range(3):
                    await journal.append({"number": number})
                    assert [entry["number"] for entry in await self.kept()] == list(range(number + 1))

        asyncio.run(look())

    def test_appends_at_once_are_all_kept_and_whole(self) -> None:
        """One search has several answers on their way to it."""

        async def together() -> None:
            async with self.opened() as journal:
                await asyncio.gather(*(journal.append({"number": n, "text": "x" * 5000}) for n in range(40)))

        asyncio.run(together())
        found = asyncio.run(self.kept())
        assert sorted(entry["number"] for entry in found) == list(range(40))
        assert all(entry["text"] == "x" * 5000 for entry in found)

    def test_a_cancelled_append_leaves_a_whole_entry_or_none(self) -> None:
        """And the journal goes on."""

        async def cancelled() -> None:
            async with self.opened() as journal:
                await journal.append({"number": 0})
                task = asyncio.ensure_future(journal.append({"number": 1}))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await journal.append({"number": 2})

        asyncio.run(cancelled())
        assert [entry["number"] for entry in asyncio.run(self.kept())] in ([0, 2], [0, 1, 2])

    def test_a_search_goes_on_from_what_is_in_it(self) -> None:
        """It ends as an undisturbed one and asks nothing again that was answered."""
        whole = MemoryJournal()
        first, undisturbed = SimulatedModel(seed=1), asyncio.run(_search(SimulatedModel(seed=1), whole))
        entries = asyncio.run(whole.entries())
        half = entries[: len(entries) // 2]
        asyncio.run(self.append_all(*half))

        async def resumed() -> Outcome[dspex.Module]:
            async with self.opened() as journal:
                return await _search(first, journal)

        outcome = asyncio.run(resumed())
        assert outcome.table() == undisturbed.table()
        assert first.calls == sum(entry["kind"] == "answer" for entry in entries[len(half) :])
        asyncio.run(resumed())
        assert first.calls == sum(entry["kind"] == "answer" for entry in entries[len(half) :])


async def _search(model: SimulatedModel, journal: Journal) -> Outcome[dspex.Module]:
    program: dspex.Module = dspex.Predict("question -> answer")
    with dspex.context(model=model):
        return await aoptimize(
            program,
            LabeledFewShot(k=2, candidates=3),
            train=_ROWS,
            metric=exact_match,
            search=Search(journal=journal, concurrency=3),
        )


@asynccontextmanager
async def always(journal: Journal) -> AsyncIterator[Journal]:
    """Open a journal that needs no opening."""
    yield journal
