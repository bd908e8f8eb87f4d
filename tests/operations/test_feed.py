"""Events are followed: each one once, at once in this process, soon from another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dspex.bootstrap import Services, new_id, open_services
from dspex.clock import SystemClock
from dspex.errors import StorageError
from dspex.operations.resources import Insert
from dspex.operations.resources.feed import AnnouncingStore, StoredFeed, Wakes
from dspex.operations.resources.trail import EventRecord
from dspex.operations.storage import Database, SQLStore, migrate
from dspex.settings import Settings
from tests.support.waiting import finish

CLOCK = SystemClock()


def event(number: int, **values: Any) -> EventRecord:
    now = CLOCK.now()
    given = {"topic": "execution", "workspace": "default", "subject_id": new_id(), "id": new_id(), **values}
    return EventRecord(created_at=now, updated_at=now, payload={"n": number}, **given)


@contextlib.asynccontextmanager
async def feeding(file: Path, **options: Any) -> AsyncIterator[tuple[StoredFeed, AnnouncingStore, Wakes]]:
    """A feed as one process has it."""
    database, wakes = Database.embedded(file), Wakes()
    try:
        await migrate(database)
        store = AnnouncingStore(SQLStore(database), wakes)
        yield StoredFeed(store, wakes, clock=CLOCK, new_id=new_id, **options), store, wakes
    finally:
        await database.aclose()


async def take(stream: AsyncIterator[EventRecord], count: int) -> list[int]:
    return [(await anext(stream)).payload["n"] for _ in range(count)]


def test_events_of_this_process_come_at_once_and_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with feeding(tmp_path / "db", poll=3600.0) as (feed, store, wakes):
            await store.write(Insert(event(0)))
            stream = feed.follow("default", "execution")
            waiting = asyncio.create_task(take(stream, 3))
            await store.write(Insert(event(1)))
            await store.write(Insert(event(9, topic="optimization")), Insert(event(8, workspace="other")))
            await store.write(Insert(event(2)), Insert(event(3)))
            assert await waiting == [1, 2, 3]
            assert len(wakes) == 1
            await stream.aclose()
            assert len(wakes) == 0

    finish(work())


def test_events_of_another_process_are_found_though_their_ids_are_out_of_order(tmp_path: Path) -> None:
    async def work() -> None:
        async with feeding(tmp_path / "db", poll=0.02) as (feed, _, _), feeding(tmp_path / "db") as (_, other, _):
            stream = feed.follow("default", "execution")
            early = new_id()
            await other.write(Insert(event(1)))
            assert await take(stream, 1) == [1]
            await other.write(Insert(event(0, id=early)))
            assert await take(stream, 1) == [0]
            await other.write(Insert(event(2)))
            assert await take(stream, 1) == [2]

    finish(work())


def test_a_cursor_gives_all_behind_it_across_pages(tmp_path: Path) -> None:
    async def work() -> None:
        async with feeding(tmp_path / "db") as (feed, store, _):
            events = [event(n) for n in range(450)]
            await store.write(*map(Insert, events))
            assert await take(feed.follow("default", "execution", after=events[9].id), 440) == list(range(10, 450))
            assert await take(feed.follow("default", "execution", after=UUID(int=0)), 450) == list(range(450))

    finish(work())


def test_events_of_one_program_can_be_followed(tmp_path: Path) -> None:
    async def work() -> None:
        async with feeding(tmp_path / "db") as (feed, store, _):
            program = new_id()
            stream = feed.follow("default", "execution", program_id=program)
            await store.write(Insert(event(1)), Insert(event(2, program_id=program)))
            assert await take(stream, 1) == [2]

    finish(work())


def test_cancelling_a_follower_leaves_nothing_behind(tmp_path: Path) -> None:
    async def work() -> None:
        async with feeding(tmp_path / "db", poll=3600.0) as (feed, store, wakes):
            task = asyncio.create_task(take(feed.follow("default", "execution"), 1))
            while not len(wakes):
                await asyncio.sleep(0)
            await store.write()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(wakes) == 0

    finish(work())


def test_a_feed_over_a_database_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        database = Database.embedded(tmp_path / "db")  # without tables
        try:
            feed = StoredFeed(SQLStore(database), Wakes(), clock=CLOCK, new_id=new_id)
            with pytest.raises(StorageError):
                await take(feed.follow("default", "execution"), 1)
        finally:
            await database.aclose()

    finish(work())


def test_the_services_have_a_feed(settings: Settings) -> None:
    async def work(services: Services) -> None:
        floor = services.operations.floor
        assert floor.feed is not None
        stream = floor.feed.follow("default", "execution")
        await floor.store.write(Insert(event(1)))
        assert await take(stream, 1) == [1]

    async def main() -> None:
        async with open_services(settings) as services:
            await work(services)

    finish(main())
