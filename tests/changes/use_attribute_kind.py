"""Uses the kind "decimal" through a resource.

On both databases, in GraphQL, JSON Schema and lists.
"""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.bootstrap import new_id
from dspex.bootstrap.database import database_of
from dspex.errors import InvalidError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.query_arguments import query_from
from dspex.operations.framework.resource import Resource, Row
from dspex.operations.framework.store import Insert, Update
from dspex.operations.storage import SQLStore, ensure_tables, migrate
from dspex.settings import Settings
from dspex.surfaces.api.graphql import core_schema, make_schema
from dspex.surfaces.api.rest.openapi import openapi

NOW = datetime(2026, 5, 4, tzinfo=UTC)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PriceRecord(Row):
    """A price."""

    amount: Decimal | None = None


PRICE = Resource(name="price", plural="prices", entity=PriceRecord)
PRICES = DOMAIN.extended(PRICE)


def test_the_source_is_the_copy() -> None:
    assert Path(dspex.__file__).parents[1].name != "src"


async def test_databases_keep_compare_and_list_it(on_each_database: Settings) -> None:
    on_each_database.state_dir.mkdir(exist_ok=True)
    database = database_of(on_each_database)
    try:
        await migrate(database)
        await ensure_tables(database, PRICES)
        store = SQLStore(database, PRICES)
        row = PriceRecord(
            id=new_id(),
            workspace="default",
            created_at=NOW,
            updated_at=NOW,
            amount=Decimal("19.90"),
        )
        await store.write(Insert(row))
        assert await store.get(PRICE, id=row.id) == row
        change = {"amount": Decimal("0.10")}
        await store.write(
            Update(resource=PRICE, id=row.id, values=change, expected={"amount": row.amount})
        )
        [stored] = await store.select(PRICE, query_from(PRICE, [("amount", "0.10")]))
        assert stored.amount == Decimal("0.10")
        assert not await store.select(PRICE, query_from(PRICE, [("amount", "19.90")]))
    finally:
        await database.aclose()


def test_surfaces_describe_and_parse_it() -> None:
    schema = make_schema(PRICES)
    assert "amount: Decimal" in str(schema)
    scalar: Any = core_schema(schema).type_map["Decimal"]
    assert scalar.parse_value("1.50") == Decimal("1.50")
    assert scalar.serialize(Decimal("1.50")) == "1.50"
    with pytest.raises(Exception, match="is not a decimal number"):
        scalar.parse_value("much")
    described = str(openapi(PRICES))
    assert "'amount': {'type': ['string', 'null'], 'format': 'decimal'}" in described
    with pytest.raises(InvalidError, match="'much' is not a decimal number"):
        query_from(PRICE, [("amount", "much")])
