"""Events are followed: each one once, at once in this process, soon from another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dspex.bootstrap import Services, new_id, open_services
from dspex.bootstrap.database import database_of, prepare
from dspex.clock import SystemClock
from dspex.errors import InvalidError, StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.events.event_log import EventLog, Feed, FeedEvent, Look, Place
from dspex.operations.events.feed import AnnouncingStore, StoredFeed
from dspex.operations.events.poller import LAST, PAGE, QUEUE, Waiters
from dspex.operations.events.records import EVENT, EventRecord
from dspex.operations.framework.store import Insert, Query
from dspex.operations.storage import Database, SQLEventLog, SQLFigures, SQLStore, migrate
from dspex.settings import Secret, Settings

CLOCK = SystemClock()


def event(number: int, **values: Any) -> EventRecord:
    now = CLOCK.now()
    fields = {
        "topic": "execution",
        "workspace": "default",
        "subject_id": new_id(),
        "id": new_id(),
        **values,
    }
    return EventRecord(created_at=now, updated_at=now, payload={"n": number}, **fields)


@contextlib.asynccontextmanager
async def feeding(
    file: Path, **options: Any
) -> AsyncIterator[tuple[StoredFeed, AnnouncingStore, Waiters]]:
    """A feed as one process has it."""
    database, wakes = Database.embedded(file), Waiters()
    try:
        await migrate(database)
        store = AnnouncingStore(SQLStore(database, DOMAIN), wakes)
        yield StoredFeed(SQLEventLog(database), wakes, new_id=new_id, **options), store, wakes
    finally:
        await database.aclose()


async def take(stream: AsyncIterator[FeedEvent], count: int) -> list[int]:
    return [(await anext(stream)).event.payload["n"] for _ in range(count)]


async def test_events_of_this_process_come_at_once_and_once(tmp_path: Path) -> None:
    async with feeding(tmp_path / "db", poll=3600.0) as (feed, store, wakes):
        await store.write(Insert(event(0)))
        stream = feed.follow("default", "execution")
        waiting = asyncio.create_task(take(stream, 3))
        await store.write(Insert(event(1)))
        await store.write(
            Insert(event(9, topic="optimization")), Insert(event(8, workspace="other"))
        )
        await store.write(Insert(event(2)), Insert(event(3)))
        assert await waiting == [1, 2, 3]
        assert len(wakes) == 1
        await stream.aclose()
        assert len(wakes) == 0


async def test_events_of_another_process_are_found_though_their_ids_are_out_of_order(
    tmp_path: Path,
) -> None:
    async with (
        feeding(tmp_path / "db", poll=0.02) as (feed, _, _),
        feeding(tmp_path / "db") as (_, remote, _),
    ):
        stream = feed.follow("default", "execution")
        early = new_id()
        await remote.write(Insert(event(1)))
        assert await take(stream, 1) == [1]
        await remote.write(Insert(event(0, id=early)))
        assert await take(stream, 1) == [0]
        await remote.write(Insert(event(2)))
        assert await take(stream, 1) == [2]


async def test_a_cursor_gives_all_behind_it_across_pages(tmp_path: Path) -> None:
    async with feeding(tmp_path / "db") as (feed, store, _):
        events = [event(n) for n in range(450)]
        await store.write(*map(Insert, events))
        # an event's id is a cursor too
        behind = feed.follow("default", "execution", after=str(events[9].id))
        assert await take(behind, 440) == list(range(10, 450))
        assert await take(feed.follow("default", "execution", after=str(UUID(int=0))), 450) == list(
            range(450)
        )
        between = UUID(int=events[99].id.int + 1)  # no event, but a moment
        assert await take(feed.follow("default", "execution", after=str(between)), 350) == list(
            range(100, 450)
        )
        for wrong in ("", "7", "x.y", f"{10**9}.{events[0].id}"):
            with pytest.raises(InvalidError, match="cursor"):
                await take(feed.follow("default", "execution", after=wrong), 1)


async def test_events_of_one_program_can_be_followed(tmp_path: Path) -> None:
    async with feeding(tmp_path / "db") as (feed, store, _):
        program = new_id()
        stream = feed.follow("default", "execution", program_id=program)
        await store.write(Insert(event(1)), Insert(event(2, program_id=program)))
        assert await take(stream, 1) == [2]


async def test_cancelling_a_follower_leaves_nothing_behind(tmp_path: Path) -> None:
    async with feeding(tmp_path / "db", poll=3600.0) as (feed, store, wakes):
        task = asyncio.create_task(take(feed.follow("default", "execution"), 1))
        while not len(wakes):
            await asyncio.sleep(0)
        await store.write()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(wakes) == 0


async def test_a_feed_over_a_database_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    database = Database.embedded(tmp_path / "db")  # without tables
    try:
        feed = StoredFeed(SQLEventLog(database), Waiters(), new_id=new_id)
        with pytest.raises(StorageError):
            await take(feed.follow("default", "execution"), 1)
    finally:
        await database.aclose()


async def test_the_services_have_a_feed(settings: Settings) -> None:
    async def work(services: Services) -> None:
        dependencies = services.operations.dependencies
        stream = dependencies.services[Feed].follow("default", "execution")
        await dependencies.store.write(Insert(event(1)))
        assert await take(stream, 1) == [1]

    async with open_services(settings) as services:
        await work(services)


@contextlib.asynccontextmanager
async def over(
    settings: Settings, **options: Any
) -> AsyncIterator[tuple[StoredFeed, AnnouncingStore, Database]]:
    """A feed as one process has it, on the database of the settings."""
    database, wakes = database_of(settings), Waiters()
    try:
        await prepare(database)
        store = AnnouncingStore(SQLStore(database, DOMAIN), wakes)
        yield StoredFeed(SQLEventLog(database), wakes, new_id=new_id, **options), store, database
    finally:
        await database.aclose()


async def test_a_resumed_cursor_misses_nothing_whose_id_is_older_than_its_own(
    on_each_database: Settings,
) -> None:
    async with (
        over(on_each_database) as (feed, store, _),
        over(on_each_database) as (_, remote, _),
    ):
        await store.write(Insert(event(0)))
        early = new_id()
        await store.write(Insert(event(1)))
        events, cursor = [], str(UUID(int=0))
        for _ in range(2):
            message = await anext(feed.follow("default", "execution", after=cursor))
            events.append(message.event.payload["n"])
            cursor = message.cursor
        await remote.write(Insert(event(2, id=early)))
        assert events == [0, 1]
        assert await take(feed.follow("default", "execution", after=cursor), 1) == [2]


async def test_a_cursor_outlives_the_event_that_it_came_with(on_each_database: Settings) -> None:
    async with over(on_each_database, poll=0.02) as (feed, store, database):
        await store.write(Insert(event(0)), Insert(event(1)))
        stream = feed.follow("default", "execution", after=str(UUID(int=0)))
        last = [await anext(stream), await anext(stream)][-1]
        await stream.aclose()
        assert await SQLFigures(database, DOMAIN).prune(EVENT, {}, before=new_id(), keep=None) == (
            2,
            0,
        )
        empty = feed.follow("default", "execution", after=last.cursor)
        waiting = asyncio.ensure_future(anext(empty))
        while feed._poller._task is None:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for n in (2, 3):
            await store.write(Insert(event(n)))
            assert await take(feed.follow("default", "execution", after=last.cursor), n - 1) == [
                *range(2, n + 1)
            ]


@pytest.mark.full
async def test_a_cursor_of_postgresql_misses_nothing_that_is_committed_late(
    postgres_url: str, tmp_path: Path
) -> None:
    import asyncpg

    settings = Settings(state_dir=tmp_path / "state", database_url=Secret(postgres_url))

    slow = await asyncpg.connect(postgres_url)
    async with over(settings, poll=0.02) as (feed, store, database):
        await store.write(Insert(event(0)))
        first = await anext(feed.follow("default", "execution", after=str(UUID(int=0))))
        undone = slow.transaction()
        await undone.start()
        copied = "INSERT INTO events (%s) SELECT %s FROM events"
        columns = "id, workspace, created_at, updated_at, lock_version, topic, subject_id, payload"
        early = columns.replace("id,", f"'{new_id()}',", 1).replace("payload", "'{\"n\": 1}'")
        await slow.execute(copied % (columns, early))
        following = asyncio.create_task(take(feed.follow("default", "execution"), 2))
        resumed = feed.follow("default", "execution", after=first.cursor)
        next_one = asyncio.ensure_future(anext(resumed))
        while feed._poller._task is None:
            await asyncio.sleep(0)
        await store.write(Insert(event(2)))
        log, where = SQLEventLog(database), {"workspace": "default", "topic": "execution"}
        look = await log.read(Place(0, LAST), where, limit=PAGE)
        # 2 is there, and could be overtaken
        assert [entry.payload["n"] for _, entry in look.events] == [0]
        assert look.is_waiting
        assert len(await store.select(EVENT, Query())) == 2
        assert not next_one.done()
        await undone.commit()
        second = await next_one
        assert second.event.payload["n"] == 1
        assert await take(feed.follow("default", "execution", after=second.cursor), 1) == [2]
        assert await following == [1, 2]
        await resumed.aclose()
    await slow.close()


@pytest.mark.full
async def test_many_writers_and_resumed_readers_on_postgresql_agree_on_every_event(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = Settings(state_dir=tmp_path / "state", database_url=Secret(postgres_url))
    count, writers = 60, 4

    async def write(store: AnnouncingStore, writer: int) -> None:
        for n in range(count):
            await store.write(Insert(event(writer * count + n)))

    async def read(feed: StoredFeed) -> list[int]:
        """Resume behind each event anew, as a client whose connection breaks all the time."""
        cursor, numbers = str(UUID(int=0)), list[int]()
        while len(numbers) < count * writers:
            stream = feed.follow("default", "execution", after=cursor)
            message = await anext(stream)
            await stream.aclose()
            cursor = message.cursor
            numbers.append(message.event.payload["n"])
        return numbers

    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(over(settings, poll=0.02)) for _ in range(writers)
        ]
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read(servers[n][0])) for n in range(2)]
            for n, (_, store, _) in enumerate(servers):
                group.create_task(write(store, n))
        orders = [reader.result() for reader in readers]
        assert sorted(orders[0]) == list(range(count * writers))
        assert orders[0] == orders[1]


class Counting:
    """A log that counts how often it is looked into."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.sight, self.first, self.place = log.sight, log.first, log.place
        self.looks = 0

    async def read(self, after: Place, where: Any, *, limit: int) -> Look:
        self.looks += 1
        return await self._log.read(after, where, limit=limit)


async def test_many_followers_cost_one_look_and_none_when_nobody_follows(tmp_path: Path) -> None:
    database, wakes = Database.embedded(tmp_path / "db"), Waiters()
    await migrate(database)
    store, log = AnnouncingStore(SQLStore(database, DOMAIN), wakes), Counting(SQLEventLog(database))
    feed = StoredFeed(log, wakes, new_id=new_id, poll=3600.0)
    streams = [feed.follow("default", ("execution", "evaluation")[n % 2]) for n in range(100)]
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    while feed._poller._task is None or log.looks < 101:
        await asyncio.sleep(0)
    assert log.looks == 101  # each caught up, and the poller looked once
    for n in range(3):
        await store.write(Insert(event(n)), Insert(event(n, topic="evaluation")))
        assert {message.event.payload["n"] for message in await asyncio.gather(*waiting)} == {n}
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    assert log.looks <= 104
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(wakes) == 0
    poller: Any = feed._poller
    assert poller._task is None
    await database.aclose()


async def test_a_slow_follower_holds_a_bounded_queue_and_loses_nothing(tmp_path: Path) -> None:
    async with feeding(tmp_path / "db", poll=3600.0) as (feed, store, _):
        slow, quick = feed.follow("default", "execution"), feed.follow("default", "execution")
        first = asyncio.gather(anext(slow), take(quick, QUEUE + 100))
        for n in range(QUEUE + 100):
            await store.write(Insert(event(n)))
        message, numbers = await first
        assert (message.event.payload["n"], numbers) == (0, list(range(QUEUE + 100)))
        [size] = {
            len(follower._queue) for group in feed._poller._followers.values() for follower in group
        } - {0}
        assert size <= QUEUE
        assert await take(slow, QUEUE + 99) == list(range(1, QUEUE + 100))
        await store.write(Insert(event(7)))
        assert await take(slow, 1) == await take(quick, 1) == [7]
        await slow.aclose()
        await quick.aclose()


async def test_a_failing_look_ends_all_who_follow_and_the_next_one_works(tmp_path: Path) -> None:
    async with feeding(tmp_path / "db", poll=0.01) as (feed, store, _):
        waiting = [
            asyncio.ensure_future(take(feed.follow("default", "execution"), 1)) for _ in range(3)
        ]
        while len(feed._poller._followers.get(("default", "execution"), ())) < 3:
            await asyncio.sleep(0)
        rows = store._store._driver.rows  # type: ignore[attr-defined]

        async def gone(_question: Any) -> Any:
            raise StorageError("gone")

        store._store._driver.rows = gone  # type: ignore[attr-defined]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["gone"] * 3
        store._store._driver.rows = rows  # type: ignore[attr-defined]
        again = asyncio.ensure_future(take(feed.follow("default", "execution"), 1))
        while feed._poller._task is None:
            await asyncio.sleep(0)
        await store.write(Insert(event(5)))
        assert await again == [5]


@pytest.mark.full
async def test_events_restored_from_another_server_do_not_hold_up_what_comes(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = Settings(state_dir=tmp_path / "state", database_url=Secret(postgres_url))

    async with over(settings, poll=0.02) as (feed, store, database):
        await store.write(Insert(event(0)), Insert(event(1)))
        # as a dump of a server with many more transactions has them
        async with database.writing() as connection:
            await connection.exec_driver_sql('UPDATE events SET "position" = "position" + 1000000')
        await migrate(database)
        await store.write(Insert(event(2)))
        stream = feed.follow("default", "execution", after=str(UUID(int=0)))
        assert await take(stream, 3) == [0, 1, 2]
        await stream.aclose()
