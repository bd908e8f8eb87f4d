"""The contract suite of search journals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import dspex
from dspex.learning.evaluation import Dataset, exact_match
from dspex.learning.optimizers import Journal, LabeledFewShot, Outcome, Search, aoptimize
from dspex.learning.optimizers.journal import Entry, MemoryJournal
from dspex.testing.simulated import SimulatedModel

_ROWS = Dataset.from_rows(
    [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(8)]
)


class JournalContract:
    """The contract of `Journal`. Subclass it in a test module and implement `open_journal`.

    Each test runs separate event loops, one after another.
    """

    def open_journal(self) -> AbstractAsyncContextManager[Journal]:
        """Open the journal of this test, as a new process would.

        It is empty at first, and later contains all entries appended before. It may be opened again
        while it is open.
        """
        raise NotImplementedError

    async def read_all(self) -> list[Entry]:
        """Open the journal and return its entries."""
        async with self.open_journal() as journal:
            return list(await journal.entries())

    async def append_all(self, *entries: Entry) -> None:
        """Open the journal and append the entries in order."""
        async with self.open_journal() as journal:
            for entry in entries:
                await journal.append(entry)

    def test_a_new_one_is_empty(self) -> None:
        """Reading it changes nothing."""
        assert asyncio.run(self.read_all()) == []
        assert asyncio.run(self.read_all()) == []

    def test_entries_come_back_in_order_and_in_later_lives(self) -> None:
        """It may be opened any number of times in between."""
        for start in (0, 10, 20):
            asyncio.run(
                self.append_all(
                    *({"kind": "answer", "key": str(n)} for n in range(start, start + 10))
                )
            )
        assert [entry["key"] for entry in asyncio.run(self.read_all())] == [
            str(n) for n in range(30)
        ]

    def test_any_json_comes_back_as_it_was(self) -> None:
        """Any text, line ends, zero characters, nesting, nulls, exact numbers and large entries."""
        entries: list[dict[str, Any]] = [
            {"text": 'a\nb\r\n\t"c" \\ \u2028 ünï 漢字 🙂 \x00', "": ""},
            {
                "figures": {"accuracy": 0.1 + 0.2, "usd": None, "p95": 1e-300},
                "n": 2**53,
                "is": True,
                "none": None,
            },
            {"nested": [[], {}, [{"a": [1, -1, 1.5]}]], "kind": "trial"},
            {"text": "x" * 1_000_000},
            {},
        ]
        asyncio.run(self.append_all(*entries))
        assert asyncio.run(self.read_all()) == entries

    def test_an_entry_is_there_for_others_as_soon_as_append_returns(self) -> None:
        """Entries are not written at closing time only, so a killed process loses nothing."""

        async def look() -> None:
            async with self.open_journal() as journal:
                for number in range(3):
                    await journal.append({"number": number})
                    assert [entry["number"] for entry in await self.read_all()] == list(
                        range(number + 1)
                    )

        asyncio.run(look())

    def test_concurrent_appends_are_all_stored_and_whole(self) -> None:
        """A search appends several answers concurrently."""

        async def append_concurrently() -> None:
            async with self.open_journal() as journal:
                await asyncio.gather(
                    *(journal.append({"number": n, "text": "x" * 5000}) for n in range(40))
                )

        asyncio.run(append_concurrently())
        entries = asyncio.run(self.read_all())
        assert sorted(entry["number"] for entry in entries) == list(range(40))
        assert all(entry["text"] == "x" * 5000 for entry in entries)

    def test_a_cancelled_append_leaves_a_whole_entry_or_none(self) -> None:
        """The journal stays usable."""

        async def cancel_one() -> None:
            async with self.open_journal() as journal:
                await journal.append({"number": 0})
                task = asyncio.ensure_future(journal.append({"number": 1}))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await journal.append({"number": 2})

        asyncio.run(cancel_one())
        assert [entry["number"] for entry in asyncio.run(self.read_all())] in ([0, 2], [0, 1, 2])

    def test_a_search_goes_on_from_what_is_in_it(self) -> None:
        """It ends like an uninterrupted search and does not repeat answered calls."""
        whole = MemoryJournal()
        first, undisturbed = (
            SimulatedModel(seed=1),
            asyncio.run(_search(SimulatedModel(seed=1), whole)),
        )
        entries = asyncio.run(whole.entries())
        half = entries[: len(entries) // 2]
        asyncio.run(self.append_all(*half))

        async def resume() -> Outcome[dspex.Module]:
            async with self.open_journal() as journal:
                return await _search(first, journal)

        outcome = asyncio.run(resume())
        assert outcome.table() == undisturbed.table()
        assert first.calls == sum(entry["kind"] == "answer" for entry in entries[len(half) :])
        asyncio.run(resume())
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
async def as_context(journal: Journal) -> AsyncIterator[Journal]:
    """Return a context manager for a journal that is always open."""
    yield journal
