"""What every store has to do."""

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
from dspex.operations.resources import DOMAIN, Insert, Query, Store, Update
from dspex.operations.resources.evaluation import EvaluationRecord
from dspex.operations.resources.signature import SignatureRecord
from dspex.operations.resources.trail import EventRecord

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
    """Return an id whose order is that of creation."""
    return uuid_utils.compat.uuid7()


def signature(**values: Any) -> SignatureRecord:  # noqa: ANN401
    """Return a row that any store can take."""
    given = {
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
    return SignatureRecord(**{**given, **values})


def event(**values: Any) -> EventRecord:  # noqa: ANN401
    """Return a row of another resource, with an attribute that may be empty."""
    common = {"id": new_id(), "workspace": "default", "created_at": NOW, "updated_at": NOW}
    return EventRecord(**{**common, "topic": "execution", "subject_id": new_id(), "payload": {}, **values})


class StoreContract:
    """Subclass it in a test module and write `make`; pytest runs it."""

    def make(self) -> AbstractAsyncContextManager[tuple[Store, Store]]:
        """Return two stores on one fresh database, as two processes would have them, ready inside `async with`."""
        raise NotImplementedError

    def run(self, test: Callable[[Store, Store], Awaitable[None]]) -> None:
        """Run one test."""

        async def main() -> None:
            async with asyncio.timeout(60), self.make() as (store, other):
                await test(store, other)

        asyncio.run(main())

    def test_a_row_comes_back_as_it_went_in(self) -> None:
        async def test(store: Store, other: Store) -> None:
            row = signature(outputs=AWKWARD, instructions="ä 🙂 'q' \n", created_at=NOW.replace(microsecond=0))
            await store.write(Insert(row))
            for asked in (store, other):
                found = await asked.get(SIGNATURE, id=row.id)
                assert found == row
                assert list(found.outputs) == list(AWKWARD)
                assert type(found.id) is UUID
                assert found.created_at.tzinfo is UTC
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
            found = await store.get(SIGNATURE, id=row.id)
            assert found is not None
            assert found.created_at == found.updated_at == NOW

        self.run(test)

    def test_what_cannot_be_stored_is_refused_and_alone(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            naive = NOW.replace(tzinfo=None)
            wrong = [Insert(signature(created_at=naive)), Insert(signature(outputs={"a": object()}))]
            outcomes = await asyncio.gather(
                *(store.write(change) for change in wrong),
                store.write(Insert(signature())),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [InvalidError, InvalidError, type(None)]
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
            assert await store.select(SIGNATURE, Query(oldest_first=True, after=rows[2].id)) == rows[3:]
            assert await store.select(SIGNATURE, Query(oldest_first=True, limit=1)) == rows[:1]

        self.run(test)

    def test_a_page_ends_where_its_rows_are_too_large_together_and_never_before_the_first(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            rows = [
                event(payload={"text": "é" * size, "n": n}) for n, size in enumerate((9, 70_000, 70_000, 9, 400_000))
            ]
            await store.write(*map(Insert, rows))
            found, query = [], Query(limit=10)
            while True:
                page = await store.page(EVENT, query, most=300_000)
                found.append(list(page.rows))
                if not page.has_more:
                    break
                query = Query(limit=10, after=page.rows[-1].id)
            assert found[0] == [rows[4]]
            assert [row for rows in found for row in rows] == rows[::-1]
            exact = await store.page(EVENT, Query(limit=2, oldest_first=True), most=10_000_000)
            assert (exact.rows, exact.has_more) == (rows[:2], True)
            assert not (await store.page(EVENT, Query(limit=5), most=10_000_000)).has_more
            assert (await store.page(EVENT, Query(limit=5, without=frozenset({"program_id"})), most=9)).rows == [
                rows[4]
            ]

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
            [found] = await store.select(EVENT, Query(without=frozenset({"program_id"})))
            assert (found.id, found.payload, found.program_id) == (row.id, row.payload, None)
            with pytest.raises(StorageError, match="payload"):
                await store.select(EVENT, Query(without=frozenset({"payload"})))

        self.run(test)

    def test_filters_match_one_value_any_of_several_or_none(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            program = new_id()
            rows = [event(topic="a"), event(topic="b", program_id=program), event(topic="c")]
            await store.write(*map(Insert, rows))

            async def found(**where: Any) -> list[str]:  # noqa: ANN401
                return [row.topic for row in await store.select(EVENT, Query(where=where, oldest_first=True))]

            assert await found(topic="b") == ["b"]
            assert await found(topic=("c", "a")) == ["a", "c"]
            assert await found(topic=()) == []
            assert await found(program_id=None) == ["a", "c"]
            assert await found(program_id=program, topic=("b",)) == ["b"]
            assert await found(id=(rows[0].id, rows[2].id, new_id())) == ["a", "c"]
            assert await found(id=rows[1].id, workspace="other") == []
            assert await store.count(EVENT, {"topic": ("a", "b")}) == 2
            assert await store.count(EVENT, {"program_id": None}) == 2
            assert await store.count(EVENT, {"topic": "'; DROP TABLE events; --"}) == 0

        self.run(test)

    def test_a_write_happens_whole_or_not_at_all(self) -> None:
        async def test(store: Store, other: Store) -> None:
            await store.write(Insert(signature()))
            with pytest.raises(ConflictError):
                await store.write(Insert(event()), Insert(signature(version=2)), Insert(signature(version=1)))
            assert await other.count(SIGNATURE, {}) == 1
            assert await other.count(EVENT, {}) == 0

        self.run(test)

    def test_a_row_may_be_inserted_and_changed_in_one_write(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            row = signature(status="draft")
            change = Update(resource=SIGNATURE, id=row.id, values={"status": "active"}, statuses=("draft",))
            await store.write(Insert(row), change)
            found = await store.get(SIGNATURE, id=row.id)
            assert found is not None
            assert (found.status, found.lock_version) == ("active", 1)
            with pytest.raises(ConflictError):
                await store.write(change, change)

        self.run(test)

    def test_an_update_needs_the_row_in_a_fitting_state(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            row = signature()
            await store.write(Insert(row))
            change = Update(
                resource=SIGNATURE, id=row.id, values={"status": "deprecated"}, statuses=("draft", "active")
            )
            await store.write(change)
            with pytest.raises(ConflictError, match="is deprecated: this needs it to be draft or active") as caught:
                await store.write(Insert(signature(version=2)), change)
            assert caught.value.context["status"] == "deprecated"
            assert await store.count(SIGNATURE, {}) == 1
            with pytest.raises(NotFoundError):
                await store.write(Insert(event()), Update(resource=SIGNATURE, id=new_id(), values={"status": "draft"}))
            assert await store.count(EVENT, {}) == 0
            found = await store.get(SIGNATURE, id=row.id)
            assert found is not None
            assert (found.status, found.lock_version) == ("deprecated", 1)

        self.run(test)

    def test_an_update_may_expect_values(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            rows = [event(), event(program_id=new_id())]
            await store.write(*map(Insert, rows))

            def moved(row: EventRecord, **expected: Any) -> Update:  # noqa: ANN401
                return Update(resource=EVENT, id=row.id, values={"program_id": rows[0].id}, expected=expected)

            with pytest.raises(ConflictError, match="has changed meanwhile"):
                await store.write(moved(rows[0], program_id=new_id()), moved(rows[1]))
            with pytest.raises(ConflictError, match="has changed meanwhile"):
                await store.write(moved(rows[1], program_id=None))
            assert (await store.select(EVENT, Query(oldest_first=True))) == rows
            await store.write(moved(rows[0], program_id=None, topic="execution"))
            await store.write(moved(rows[1], program_id=rows[1].program_id))
            assert await store.count(EVENT, {"program_id": rows[0].id}) == 2

        self.run(test)

    def test_of_many_who_take_one_step_exactly_one_does(self) -> None:
        async def test(store: Store, other: Store) -> None:
            row = signature()
            await store.write(Insert(row))
            change = Update(resource=SIGNATURE, id=row.id, values={"status": "deprecated"}, statuses=("active",))
            outcomes = await asyncio.gather(
                *(asked.write(change, Insert(event())) for asked in (store, other) * 10), return_exceptions=True
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictError"] * 19 + ["NoneType"]
            assert await store.count(EVENT, {}) == 1

        self.run(test)

    def test_concurrent_increments_lose_nothing(self) -> None:
        async def test(store: Store, other: Store) -> None:
            rows = [signature(version=n) for n in (100, 200)]
            await store.write(*map(Insert, rows))
            changes = [
                Update(resource=SIGNATURE, id=row.id, increments={"version": 1}, values={"source": f"{n}"})
                for n in range(40)
                for row in rows
            ]
            stores = (store, other)
            await asyncio.gather(*(stores[n // 3 % 2].write(change) for n, change in enumerate(changes)))
            found = await other.select(SIGNATURE, Query(oldest_first=True))
            assert [(row.version, row.lock_version) for row in found] == [(140, 40), (240, 40)]

        self.run(test)

    def test_counters_that_move_in_one_state_only_stop_with_it(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            rows = [signature(version=n, status=status) for n, status in ((100, "active"), (200, "draft"))]
            await store.write(*map(Insert, rows))

            def moves() -> list[Awaitable[None]]:
                wanted = [
                    Update(resource=SIGNATURE, id=row.id, increments={"version": 1}, statuses=("active",))
                    for _ in range(10)
                    for row in rows
                ]
                return [store.write(change, Insert(event())) for change in wanted]

            outcomes = await asyncio.gather(*moves(), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [type(None), ConflictError] * 10
            found = await store.select(SIGNATURE, Query(oldest_first=True))
            assert [(row.version, row.lock_version) for row in found] == [(110, 10), (200, 0)]
            assert await store.count(EVENT, {}) == 10
            await store.write(Update(resource=SIGNATURE, id=rows[1].id, values={"status": "active"}))
            await asyncio.gather(*moves())
            found = await store.select(SIGNATURE, Query(oldest_first=True))
            assert [(row.version, row.lock_version) for row in found] == [(120, 20), (210, 11)]

        self.run(test)

    def test_one_of_many_at_once_that_conflicts_fails_alone(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            taken = signature(version=5)
            await store.write(Insert(taken))
            outcomes = await asyncio.gather(
                *(store.write(Insert(signature(version=n)), Insert(event(topic=str(n)))) for n in range(10)),
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
            found = await store.get(SIGNATURE, id=row.id)
            assert found is not None
            assert (found.source, found.instructions, found.content_hash, found.lock_version) == ("9", "9", "9", 30)

        self.run(test)

    def test_a_cancelled_write_happens_whole_or_not_at_all(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            for rounds in range(12):
                rows = [Insert(signature(version=rounds)), Insert(event(topic=str(rounds)))]
                task = asyncio.create_task(store.write(*rows))
                for _ in range(rounds):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, store.write(Insert(event(topic="beside"))), return_exceptions=True)
            written = {str(row.version) for row in await store.select(SIGNATURE, Query())}
            told = {row.topic for row in await store.select(EVENT, Query())} - {"beside"}
            assert written == told
            assert await store.count(EVENT, {"topic": "beside"}) == 12

        self.run(test)

    def test_an_empty_write_is_nothing(self) -> None:
        async def test(store: Store, _other: Store) -> None:
            await store.write()
            await store.write(Insert(signature()))

        self.run(test)
