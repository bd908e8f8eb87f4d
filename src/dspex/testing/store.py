"""The contract suite of stores."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
import uuid_utils.compat

from dspex.errors import ConflictError, InternalError, InvalidError, NotFoundError, StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.evaluations.records import EvaluationRecord
from dspex.operations.events.records import EventRecord
from dspex.operations.framework.store import Insert, Query, Store, Update
from dspex.operations.programs.records import SignatureRecord

SIGNATURE, EVENT, EVALUATION = DOMAIN["signature"], DOMAIN["event"], DOMAIN["evaluation"]
NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)
AWKWARD = {
    "z first": 1,
    "a": [2.5, -0.0, 1e300, None, True, {"deep": [[]]}],
    "text": 'ä "quoted" \\ \n \u2028 \x00 \x1f 🙂',
    "": 2**80,
    "half": "\ud83d",
}


def new_id() -> UUID:
    """Return an id that sorts by creation."""
    return uuid_utils.compat.uuid7()


def signature(**values: Any) -> SignatureRecord:
    """Return a valid row."""
    defaults = {
        "id": new_id(),
        "workspace": "default",
        "created_at": NOW,
        "updated_at": NOW,
        "name": "qa",
        "version": 1,
        "status": "active",
        "inputs": {"fields": []},
        "outputs": {},
        "instructions": "",
        "content_hash": "h",
        "source": "string",
        "definition": {},
    }
    return SignatureRecord(**{**defaults, **values})


def event(**values: Any) -> EventRecord:
    """Return a row of another resource, with an optional attribute."""
    common = {"id": new_id(), "workspace": "default", "created_at": NOW, "updated_at": NOW}
    return EventRecord(
        **{**common, "topic": "execution", "subject_id": new_id(), "payload": {}, **values}
    )


class StoreContract:
    """Subclass it in a test module and implement `make`; pytest runs it."""

    def make(self) -> AbstractAsyncContextManager[tuple[Store, Store]]:
        """Return two stores on one new database, like those of two processes; use `async with`."""
        raise NotImplementedError

    def run(self, test: Callable[[Store, Store], Awaitable[None]]) -> None:
        """Run a test."""

        async def main() -> None:
            async with asyncio.timeout(60), self.make() as (store, second_store):
                await test(store, second_store)

        asyncio.run(main())

    def test_a_row_comes_back_as_it_went_in(self) -> None:
        async def test(store: Store, second_store: Store) -> None:
            row = signature(
                outputs=AWKWARD, instructions="ä 🙂 'q' \n", created_at=NOW.replace(microsecond=0)
            )
            await store.write(Insert(row))
            for each in (store, second_store):
                row_read = await each.get(SIGNATURE, id=row.id)
                assert row_read == row
                assert list(row_read.outputs) == list(AWKWARD)
                assert type(row_read.id) is UUID
                assert row_read.created_at.tzinfo is UTC
            assert await store.get(SIGNATURE, workspace="default", name="qa", version=1) == row
            assert await store.get(SIGNATURE, id=new_id()) is None
            assert await store.get(SIGNATURE, workspace="other", id=row.id) is None

        self.run(test)

    def test_a_moment_is_kept_whatever_its_zone(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            moment = NOW.astimezone(timezone(timedelta(hours=-7)))
            row = signature(created_at=moment)
            await store.write(Insert(row))
            await store.write(Update(resource=SIGNATURE, id=row.id, values={"updated_at": moment}))
            stored = await store.get(SIGNATURE, id=row.id)
            assert stored is not None
            assert stored.created_at == stored.updated_at == NOW

        self.run(test)

    def test_what_cannot_be_stored_is_refused_and_alone(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            naive = NOW.replace(tzinfo=None)
            wrong = [
                Insert(signature(created_at=naive)),
                Insert(signature(outputs={"a": object()})),
            ]
            outcomes = await asyncio.gather(
                *(store.write(change) for change in wrong),
                store.write(Insert(signature())),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [
                InvalidError,
                InvalidError,
                type(None),
            ]
            with pytest.raises(InternalError):
                await store.write(Insert(object()))
            for where in ({"created_at": naive}, {"version": 10**30}):
                with pytest.raises(InvalidError):
                    await store.count(SIGNATURE, where)
            with pytest.raises(StorageError, match="no attribute 'colour'"):
                await store.count(SIGNATURE, {"colour": 1})
            assert await store.count(SIGNATURE, {}) == 1

        self.run(test)

    def test_rows_are_listed_newest_first_page_by_page(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            rows = [signature(version=n) for n in range(5)]
            await store.write(*map(Insert, rows))
            newest = rows[::-1]
            assert await store.select(SIGNATURE, Query()) == newest
            assert await store.select(SIGNATURE, Query(limit=2)) == newest[:2]
            assert await store.select(SIGNATURE, Query(limit=9, after=newest[1].id)) == newest[2:]
            assert await store.select(SIGNATURE, Query(after=newest[-1].id)) == []
            assert (
                await store.select(SIGNATURE, Query(oldest_first=True, after=rows[2].id))
                == rows[3:]
            )
            assert await store.select(SIGNATURE, Query(oldest_first=True, limit=1)) == rows[:1]

        self.run(test)

    def test_a_page_ends_where_its_rows_are_too_large_together_and_never_before_the_first(
        self,
    ) -> None:
        async def test(store: Store, _other: Store) -> None:
            rows = [
                event(payload={"text": "é" * size, "n": n})
                for n, size in enumerate((9, 70_000, 70_000, 9, 400_000))
            ]
            await store.write(*map(Insert, rows))
            pages, query = [], Query(limit=10)
            while True:
                page = await store.page(EVENT, query, most=300_000)
                pages.append(list(page.rows))
                if not page.has_more:
                    break
                query = Query(limit=10, after=page.rows[-1].id)
            assert pages[0] == [rows[4]]
            assert [row for rows in pages for row in rows] == rows[::-1]
            exact = await store.page(EVENT, Query(limit=2, oldest_first=True), most=10_000_000)
            assert (exact.rows, exact.has_more) == (rows[:2], True)
            assert not (await store.page(EVENT, Query(limit=5), most=10_000_000)).has_more
            assert (
                await store.page(EVENT, Query(limit=5, without=frozenset({"program_id"})), most=9)
            ).rows == [rows[4]]

        self.run(test)

    def test_a_page_holds_no_more_than_it_gives_however_much_is_behind_it(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            for _ in range(40):
                await store.write(Insert(event(payload={"text": "x" * 1_000_000})))
            tracemalloc.start()
            try:
                page = await store.page(EVENT, Query(limit=200), most=3_000_000)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert (len(page.rows), page.has_more) == (2, True)
            assert 2_000_000 < page.size < 3_000_000
            assert peak < 16_000_000

        self.run(test)

    def test_what_a_query_does_without_is_none_in_every_row(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            row = event(program_id=new_id())
            await store.write(Insert(row))
            [stored] = await store.select(EVENT, Query(without=frozenset({"program_id"})))
            assert (stored.id, stored.payload, stored.program_id) == (row.id, row.payload, None)
            with pytest.raises(StorageError, match="payload"):
                await store.select(EVENT, Query(without=frozenset({"payload"})))

        self.run(test)

    def test_filters_match_one_value_any_of_several_or_none(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            program = new_id()
            rows = [event(topic="a"), event(topic="b", program_id=program), event(topic="c")]
            await store.write(*map(Insert, rows))

            async def topics(**where: Any) -> list[str]:
                return [
                    row.topic
                    for row in await store.select(EVENT, Query(where=where, oldest_first=True))
                ]

            assert await topics(topic="b") == ["b"]
            assert await topics(topic=("c", "a")) == ["a", "c"]
            assert await topics(topic=()) == []
            assert await topics(program_id=None) == ["a", "c"]
            assert await topics(program_id=program, topic=("b",)) == ["b"]
            assert await topics(id=(rows[0].id, rows[2].id, new_id())) == ["a", "c"]
            assert await topics(id=rows[1].id, workspace="other") == []
            assert await store.count(EVENT, {"topic": ("a", "b")}) == 2
            assert await store.count(EVENT, {"program_id": None}) == 2
            assert await store.count(EVENT, {"topic": "'; DROP TABLE events; --"}) == 0

        self.run(test)

    def test_a_write_happens_whole_or_not_at_all(self) -> None:
        async def test(store: Store, second_store: Store) -> None:
            await store.write(Insert(signature()))
            with pytest.raises(ConflictError):
                await store.write(
                    Insert(event()), Insert(signature(version=2)), Insert(signature(version=1))
                )
            assert await second_store.count(SIGNATURE, {}) == 1
            assert await second_store.count(EVENT, {}) == 0

        self.run(test)

    def test_a_row_may_be_inserted_and_changed_in_one_write(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            row = signature(status="draft")
            change = Update(
                resource=SIGNATURE, id=row.id, values={"status": "active"}, statuses=("draft",)
            )
            await store.write(Insert(row), change)
            stored = await store.get(SIGNATURE, id=row.id)
            assert stored is not None
            assert (stored.status, stored.lock_version) == ("active", 1)
            with pytest.raises(ConflictError):
                await store.write(change, change)

        self.run(test)

    def test_an_update_needs_the_row_in_a_fitting_state(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            row = signature()
            await store.write(Insert(row))
            change = Update(
                resource=SIGNATURE,
                id=row.id,
                values={"status": "deprecated"},
                statuses=("draft", "active"),
            )
            await store.write(change)
            with pytest.raises(
                ConflictError, match="is deprecated: this needs it to be draft or active"
            ) as caught:
                await store.write(Insert(signature(version=2)), change)
            assert caught.value.context["status"] == "deprecated"
            assert await store.count(SIGNATURE, {}) == 1
            with pytest.raises(NotFoundError):
                await store.write(
                    Insert(event()),
                    Update(resource=SIGNATURE, id=new_id(), values={"status": "draft"}),
                )
            assert await store.count(EVENT, {}) == 0
            stored = await store.get(SIGNATURE, id=row.id)
            assert stored is not None
            assert (stored.status, stored.lock_version) == ("deprecated", 1)

        self.run(test)

    def test_an_update_may_expect_values(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            rows = [event(), event(program_id=new_id())]
            await store.write(*map(Insert, rows))

            def move(row: EventRecord, **expected: Any) -> Update:
                return Update(
                    resource=EVENT, id=row.id, values={"program_id": rows[0].id}, expected=expected
                )

            with pytest.raises(ConflictError, match="has changed meanwhile"):
                await store.write(move(rows[0], program_id=new_id()), move(rows[1]))
            with pytest.raises(ConflictError, match="has changed meanwhile"):
                await store.write(move(rows[1], program_id=None))
            assert (await store.select(EVENT, Query(oldest_first=True))) == rows
            await store.write(move(rows[0], program_id=None, topic="execution"))
            await store.write(move(rows[1], program_id=rows[1].program_id))
            assert await store.count(EVENT, {"program_id": rows[0].id}) == 2

        self.run(test)

    def test_of_many_who_take_one_step_exactly_one_does(self) -> None:
        async def test(store: Store, second_store: Store) -> None:
            row = signature()
            await store.write(Insert(row))
            change = Update(
                resource=SIGNATURE, id=row.id, values={"status": "deprecated"}, statuses=("active",)
            )
            outcomes = await asyncio.gather(
                *(each.write(change, Insert(event())) for each in (store, second_store) * 10),
                return_exceptions=True,
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == [
                "ConflictError"
            ] * 19 + ["NoneType"]
            assert await store.count(EVENT, {}) == 1

        self.run(test)

    def test_concurrent_increments_lose_nothing(self) -> None:
        async def test(store: Store, second_store: Store) -> None:
            rows = [signature(version=n) for n in (100, 200)]
            await store.write(*map(Insert, rows))
            changes = [
                Update(
                    resource=SIGNATURE,
                    id=row.id,
                    increments={"version": 1},
                    values={"source": f"{n}"},
                )
                for n in range(40)
                for row in rows
            ]
            stores = (store, second_store)
            await asyncio.gather(
                *(stores[n // 3 % 2].write(change) for n, change in enumerate(changes))
            )
            stored = await second_store.select(SIGNATURE, Query(oldest_first=True))
            assert [(row.version, row.lock_version) for row in stored] == [(140, 40), (240, 40)]

        self.run(test)

    def test_counters_that_move_in_one_state_only_stop_with_it(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            rows = [
                signature(version=n, status=status)
                for n, status in ((100, "active"), (200, "draft"))
            ]
            await store.write(*map(Insert, rows))

            def start_writes() -> list[Awaitable[None]]:
                changes = [
                    Update(
                        resource=SIGNATURE,
                        id=row.id,
                        increments={"version": 1},
                        statuses=("active",),
                    )
                    for _ in range(10)
                    for row in rows
                ]
                return [store.write(change, Insert(event())) for change in changes]

            outcomes = await asyncio.gather(*start_writes(), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [type(None), ConflictError] * 10
            stored = await store.select(SIGNATURE, Query(oldest_first=True))
            assert [(row.version, row.lock_version) for row in stored] == [(110, 10), (200, 0)]
            assert await store.count(EVENT, {}) == 10
            await store.write(
                Update(resource=SIGNATURE, id=rows[1].id, values={"status": "active"})
            )
            await asyncio.gather(*start_writes())
            stored = await store.select(SIGNATURE, Query(oldest_first=True))
            assert [(row.version, row.lock_version) for row in stored] == [(120, 20), (210, 11)]

        self.run(test)

    def test_one_of_many_at_once_that_conflicts_fails_alone(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            existing = signature(version=5)
            await store.write(Insert(existing))
            outcomes = await asyncio.gather(
                *(
                    store.write(Insert(signature(version=n)), Insert(event(topic=str(n))))
                    for n in range(10)
                ),
                store.write(Insert(event(topic="last")), Update(resource=SIGNATURE, id=new_id())),
                return_exceptions=True,
            )
            failed = {n: type(outcome) for n, outcome in enumerate(outcomes) if outcome is not None}
            assert failed == {5: ConflictError, 10: NotFoundError}
            topics = {row.topic for row in await store.select(EVENT, Query())}
            assert topics == set("012346789")

        self.run(test)

    def test_references_to_nothing_are_refused(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            lost = EvaluationRecord(
                id=new_id(),
                workspace="default",
                created_at=NOW,
                updated_at=NOW,
                program_id=new_id(),
                program_version_id=new_id(),
                dataset_id=new_id(),
                metrics=[],
                configuration={},
                needs={},
                progress={},
            )
            with pytest.raises(ConflictError, match="refers to what does not"):
                await store.write(Insert(lost))

        self.run(test)

    def test_writes_of_one_caller_keep_their_order(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            row = signature()
            await store.write(Insert(row))

            async def push(name: str) -> None:
                for n in range(10):
                    await store.write(Update(resource=SIGNATURE, id=row.id, values={name: str(n)}))

            await asyncio.gather(*map(push, ("source", "instructions", "content_hash")))
            stored = await store.get(SIGNATURE, id=row.id)
            assert stored is not None
            assert (
                stored.source,
                stored.instructions,
                stored.content_hash,
                stored.lock_version,
            ) == ("9", "9", "9", 30)

        self.run(test)

    def test_a_cancelled_write_happens_whole_or_not_at_all(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            for rounds in range(12):
                rows = [Insert(signature(version=rounds)), Insert(event(topic=str(rounds)))]
                task = asyncio.create_task(store.write(*rows))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(
                    task, store.write(Insert(event(topic="beside"))), return_exceptions=True
                )
            versions = {str(row.version) for row in await store.select(SIGNATURE, Query())}
            topics = {row.topic for row in await store.select(EVENT, Query())} - {"beside"}
            assert versions == topics
            assert await store.count(EVENT, {"topic": "beside"}) == 12

        self.run(test)

    def test_an_empty_write_is_nothing(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            await store.write()
            await store.write(Insert(signature()))

        self.run(test)
