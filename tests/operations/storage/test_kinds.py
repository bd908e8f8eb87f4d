"""Every kind of attribute on every database, through all that is done with it.

And writes that meet a bad one.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

import pytest

from dspex.bootstrap import new_id
from dspex.bootstrap.database import database_of
from dspex.errors import ConflictError, DspexError, InternalError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.attribute_kinds import (
    ATTRIBUTE_KINDS,
    Count,
    Embedding,
    Probability,
)
from dspex.operations.framework.resource import Resource, Row
from dspex.operations.framework.store import Insert, Query, Update
from dspex.operations.storage import SQLStore, ensure_tables, migrate
from dspex.operations.storage.column_types import column_type
from dspex.operations.storage.values import moment_text
from dspex.settings import Settings

KINDS = tuple(ATTRIBUTE_KINDS)
NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord(Row):
    """A row with an attribute of each kind."""

    uuid: UUID | None = None
    text: str | None = None
    integer: int | None = None
    number: float | None = None
    count: Count | None = None
    flag: bool | None = None
    time: datetime | None = None
    json: dict[str, Any] | None = None
    probability: Probability | None = None
    embedding: Embedding | None = None


SAMPLE = Resource(name="sample", plural="samples", entity=SampleRecord)
VALUES: dict[str, tuple[Any, Any]] = {
    "uuid": (UUID(int=1), UUID(int=2)),
    "text": ("one", "ä 'two' \n"),
    "integer": (1, -(2**31)),
    "number": (1.0, 1e300),
    "count": (0, 2**53),
    "flag": (True, False),
    "time": (NOW, NOW + timedelta(days=1)),
    "json": ({"z": 1, "a": [None]}, {}),
    "probability": (0.25, 1.0),
    "embedding": ([0.5, -1e-9], [1.0]),
}


def sample(**values: Any) -> SampleRecord:
    return SampleRecord(id=new_id(), workspace="default", created_at=NOW, updated_at=NOW, **values)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[SQLStore]:
    settings.state_dir.mkdir(exist_ok=True)
    database, domain = database_of(settings), DOMAIN.extended(SAMPLE)
    try:
        await migrate(database)
        await ensure_tables(database, domain)
        yield SQLStore(database, domain)
    finally:
        await database.aclose()


def test_every_kind_is_tried() -> None:
    assert {attribute.kind for attribute in SAMPLE.attributes} == set(KINDS) == set(VALUES)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_value_of_each_kind_is_inserted_changed_expected_and_emptied(
    on_each_database: Settings, kind: str
) -> None:
    async with opened(on_each_database) as store:
        first, second = VALUES[kind]
        row, neighbour = sample(**{kind: first}), sample()
        await store.write(Insert(row), Insert(neighbour))

        async def value(of: SampleRecord) -> Any:
            stored = await store.get(SAMPLE, id=of.id)
            assert stored is not None
            return getattr(stored, kind)

        assert (await value(row), await value(neighbour)) == (first, None)
        changes = [
            Update(resource=SAMPLE, id=each.id, values={kind: second}) for each in (row, neighbour)
        ]
        await asyncio.gather(*(store.write(change) for change in changes))  # grouped
        assert (await value(row), await value(neighbour)) == (second, second)
        assert type(await value(row)) is type(second)
        if not column_type(kind).is_long:
            request = Update(
                resource=SAMPLE, id=row.id, values={kind: first}, expected={kind: second}
            )
            outcomes = await asyncio.gather(
                store.write(request), store.write(request), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [type(None), ConflictError]
            assert await store.count(SAMPLE, {kind: first}) == 1
        await store.write(Update(resource=SAMPLE, id=row.id, values={kind: None}))
        assert await value(row) is None


class BrokenZone(tzinfo):
    """A zone that fails in a way that nobody expects of a value."""

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        raise KeyError("no such zone")

    def dst(self, _moment: datetime | None) -> timedelta:
        raise KeyError("no such zone")

    def tzname(self, _moment: datetime | None) -> str:
        raise KeyError("no such zone")


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("act", ["insert", "update"])
async def test_a_bad_write_fails_alone(on_each_database: Settings, act: str, at: int) -> None:
    """Whatever is wrong with it, the writes that wait beside it are done."""

    async with opened(on_each_database) as store:
        row = sample(text="before")
        await store.write(Insert(row))
        broken = NOW.replace(tzinfo=BrokenZone())
        bad: Any = Insert(sample(time=broken))
        if act == "update":
            bad = Update(resource=SAMPLE, id=row.id, values={"time": broken})
        good = [Insert(sample(text=f"good {number}")) for number in range(2)]
        good.append(Update(resource=SAMPLE, id=row.id, values={"text": "after"}))
        changes: list[Any] = [*good[:at], bad, *good[at:]]
        outcomes = await asyncio.gather(
            *(store.write(change) for change in changes), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if outcome is not None]
        assert [type(error) for error in errors] == [InternalError]
        assert isinstance(errors[0], DspexError)
        assert "KeyError" in errors[0].message
        rows = await store.select(SAMPLE, Query(limit=10))
        assert sorted(str(each.text) for each in rows) == ["after", "good 0", "good 1"]


class _Autumn(tzinfo):
    """A zone whose clocks were turned back.

    Its times between two and three are there twice, and equal.
    """

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=2 - (dt.fold if dt else 0))

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None


def test_the_text_of_a_time_is_that_of_its_moment_though_another_equals_it() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=_Autumn())
    second = first.replace(fold=1)
    assert first == second
    assert [moment_text(time) for time in (first, second, first)] == [
        "2026-10-25 00:30:00.000000",
        "2026-10-25 01:30:00.000000",
        "2026-10-25 00:30:00.000000",
    ]
    with pytest.raises(ValueError, match="without a zone"):
        moment_text(first.replace(tzinfo=None))
