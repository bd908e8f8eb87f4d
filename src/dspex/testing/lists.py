"""The contract suite of stores for sorting and filtering."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest

from dspex.errors import StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.framework.query_arguments import continue_after, cursor_of, query_from
from dspex.operations.framework.store import Insert, Match, Query, Sort, Store, Update
from dspex.operations.programs.records import ProgramRecord, ProgramVersionRecord
from dspex.testing.store import NOW, new_id, signature

EXECUTION = DOMAIN["execution"]
_COSTS = (0.25, None, 0.5, 0.25, 1e-9, None, 0.25, -0.0, 0.0, 1 / 3)
_NAMES = ("b", "B", "ä", "a_c", None, "abc", "a%c", "", "z🙂", "ab")


def _executions() -> tuple[list[Any], list[ExecutionRecord]]:
    """Return rows to insert first, and executions with equal, missing and hard-to-sort values."""
    common: Any = {"workspace": "default", "created_at": NOW, "updated_at": NOW}
    contract = signature()
    program = ProgramRecord(
        id=new_id(),
        **common,
        name="p",
        status="ready",
        signature_id=contract.id,
        current_version_id=None,
        module="predict",
        backend="mock",
        configuration={},
    )
    version = ProgramVersionRecord(
        id=new_id(),
        **common,
        program_id=program.id,
        number=1,
        content_hash="h",
        definition={},
        assignment={},
    )
    executions = [
        ExecutionRecord(
            id=new_id(),
            **{**common, "created_at": NOW + timedelta(microseconds=n // 3)},
            program_id=program.id,
            program_version_id=version.id,
            status="failed" if n % 3 else "completed",
            backend="mock",
            inputs={},
            cost_usd=cost,
            idempotency_key=name,
            started_at=None if n == 4 else NOW + timedelta(days=n % 4, microseconds=1),
        )
        for n, (cost, name) in enumerate(zip(_COSTS, _NAMES, strict=True))
    ]
    return [contract, program, version], executions


def _sorted(rows: Sequence[ExecutionRecord], sort: Sort) -> list[ExecutionRecord]:
    """Return the rows in the order that `Sort` promises, computed independently."""
    present = [row for row in rows if getattr(row, sort.attribute) is not None]
    absent = [row for row in rows if getattr(row, sort.attribute) is None]
    present.sort(key=lambda row: (getattr(row, sort.attribute), row.id), reverse=sort.is_descending)
    absent.sort(key=lambda row: row.id, reverse=sort.is_descending)
    return present + absent


class ListContract:
    """Subclass it in a test module and implement `make`; pytest runs it."""

    def make(self) -> AbstractAsyncContextManager[tuple[Store, Store]]:
        """Return two stores on one new database, ready inside `async with`."""
        raise NotImplementedError

    def run(self, test: Callable[[Store, list[ExecutionRecord]], Awaitable[None]]) -> None:
        """Run a test on a store with executions."""

        async def main() -> None:
            async with asyncio.timeout(60), self.make() as (store, _other):
                first, executions = _executions()
                await store.write(*map(Insert, (*first, *executions)))
                await test(store, executions)

        asyncio.run(main())

    def test_pages_in_every_order_give_each_row_once_and_in_its_place(self) -> None:
        async def test(store: Store, rows: list[ExecutionRecord]) -> None:
            for name, is_descending, size in itertools.product(
                EXECUTION.sortable, (False, True), (1, 3)
            ):
                sort = Sort(name, is_descending=is_descending)
                query, listed = Query(sort=sort, limit=size), list[ExecutionRecord]()
                while page := await store.select(EXECUTION, query):
                    listed += page
                    query = continue_after(EXECUTION, query, cursor_of(page[-1], sort))
                assert [row.id for row in listed] == [row.id for row in _sorted(rows, sort)], (
                    sort,
                    size,
                )

        self.run(test)

    def test_a_page_goes_on_where_the_last_one_ended_whatever_became_of_its_last_row(self) -> None:
        async def test(store: Store, rows: list[ExecutionRecord]) -> None:
            sort = Sort("cost_usd", is_descending=True)
            ordered = _sorted(rows, sort)
            for place in range(len(ordered)):
                last = ordered[place]
                await store.write(Update(resource=EXECUTION, id=last.id, values={"cost_usd": 99.0}))
                query = continue_after(EXECUTION, Query(sort=sort), cursor_of(last, sort))
                assert [row.id for row in await store.select(EXECUTION, query)] == [
                    row.id for row in ordered[place + 1 :]
                ]
                await store.write(
                    Update(resource=EXECUTION, id=last.id, values={"cost_usd": last.cost_usd})
                )

        self.run(test)

    def test_every_filter_gives_the_rows_of_which_it_is_true(self) -> None:
        async def test(store: Store, rows: list[ExecutionRecord]) -> None:
            def name_of(row: ExecutionRecord) -> str:
                return row.idempotency_key if row.idempotency_key is not None else "\uffff none"

            day = rows[1].started_at
            assert day is not None
            filters: dict[str, Callable[[ExecutionRecord], bool]] = {
                "cost_usd_gte=0.25": lambda row: row.cost_usd is not None and row.cost_usd >= 0.25,
                "cost_usd_lte=0.25": lambda row: row.cost_usd is not None and row.cost_usd <= 0.25,
                "cost_usd_gte=0.1&cost_usd_lte=0.3": lambda row: row.cost_usd == 0.25,
                "cost_usd_is_null=true": lambda row: row.cost_usd is None,
                "cost_usd_is_null=false&status=failed": lambda row: (
                    row.cost_usd is not None and row.status == "failed"
                ),
                "status_in=failed&status_in=running": lambda row: row.status == "failed",
                "status=failed&status_in=completed": lambda _row: False,
                f"started_at_after={day.isoformat()}": lambda row: (
                    row.started_at is not None and row.started_at > day
                ),
                f"started_at_before={day.isoformat()}": lambda row: (
                    row.started_at is not None and row.started_at < day
                ),
                "idempotency_key_contains=b": lambda row: "b" in name_of(row),
                "idempotency_key_contains=%": lambda row: "%" in name_of(row),
                "idempotency_key_starts_with=a_": lambda row: name_of(row).startswith("a_"),
                "idempotency_key_starts_with=ä": lambda row: name_of(row).startswith("ä"),
                "idempotency_key_starts_with=": lambda row: row.idempotency_key is not None,
                "idempotency_key_in=": lambda row: row.idempotency_key == "",
                f"parent_id={new_id()}": lambda _row: False,
                "parent_id_is_null=true": lambda _row: True,
            }
            for text, matches in filters.items():
                pairs = [
                    (name, value)
                    for name, _, value in (part.partition("=") for part in text.split("&"))
                ]
                query = query_from(EXECUTION, [*pairs, ("sort", "cost_usd")])
                expected = [row.id for row in _sorted(rows, Sort("cost_usd")) if matches(row)]
                assert [row.id for row in await store.select(EXECUTION, query)] == expected, text
                assert await store.count(EXECUTION, query.where) == len(expected), text

        self.run(test)

    def test_an_unknown_attribute_is_refused(self) -> None:
        async def test(store: Store, _rows: list[ExecutionRecord]) -> None:
            with pytest.raises(StorageError, match="no attribute 'colour'"):
                await store.select(EXECUTION, Query(sort=Sort("colour")))
            with pytest.raises(StorageError, match="no attribute 'colour'"):
                await store.count(EXECUTION, {"colour": Match((("gte", 1),))})
            hostile = Match((("contains", "'; DROP TABLE executions --"),))
            assert await store.select(EXECUTION, Query(where={"actor": hostile})) == []

        self.run(test)
