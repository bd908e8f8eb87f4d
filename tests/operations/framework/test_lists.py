"""Lists that are sorted and narrowed.

The contract on both databases, and what callers write for it.
"""

import base64
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import InvalidError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.query_arguments import (
    MAX_MEMBERS,
    continue_after,
    cursor_of,
    query_from,
    where_of,
)
from dspex.operations.framework.store import Match, Query, Sort, Store
from dspex.testing.lists import ListContract
from tests.operations.storage.test_store import two_stores
from tests.support.properties import examples

EXECUTION, PROGRAM, API_KEY = DOMAIN["execution"], DOMAIN["program"], DOMAIN["api_key"]


class TestSQLiteLists(ListContract):
    @pytest.fixture(autouse=True)
    def _url(self, tmp_path: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{tmp_path / 'db'}"

    def make(self) -> AbstractAsyncContextManager[tuple[Store, Store]]:
        return two_stores(self.url)


@pytest.mark.full
class TestPostgreSQLLists(TestSQLiteLists):
    @pytest.fixture(autouse=True)
    def _url(self, postgres_url: str) -> None:
        self.url = postgres_url


def test_filters_and_orders_follow_from_the_kinds_of_the_shown_attributes() -> None:
    names = set(EXECUTION.filters)
    assert {
        "status",
        "status_in",
        "cost_usd_gte",
        "cost_usd_lte",
        "created_at_after",
        "created_at_before",
    } <= names
    assert {
        "backend_contains",
        "backend_starts_with",
        "parent_id_is_null",
        "program_id_in",
    } <= names
    assert not names & {
        "id",
        "inputs",
        "outputs",
        "workspace",
        "inputs_hash",
        "status_contains",
        "status_is_null",
    }
    assert {"cost_usd", "status", "created_at", "duration_ms"} <= set(EXECUTION.sortable)
    assert not set(EXECUTION.sortable) & {"id", "program_id", "inputs", "workspace", "inputs_hash"}
    assert not {"hash", "hash_contains"} & {*API_KEY.filters, *API_KEY.sortable}
    assert "instructions" not in DOMAIN["signature"].sortable
    assert [
        resource.reserved_attribute for resource in DOMAIN.values() if resource.reserved_attribute
    ] == []


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("sort=colour", "sort"),
        ("sort=inputs", "sort"),
        ("sort=-id", "sort"),
        ("sort=--cost_usd", "sort"),
        ("sort=", "sort"),
        ("colour=1", "colour"),
        ("inputs=1", "inputs"),
        ("status=nope", "status"),
        ("status_in=nope", "status_in"),
        ("status=failed&status=completed", "status"),
        ("cost_usd_gte=nan", "cost_usd_gte"),
        ("cost_usd_lte=inf", "cost_usd_lte"),
        ("cost_usd_gte=x", "cost_usd_gte"),
        ("created_at_after=2030-01-01T00:00:00", "created_at_after"),
        ("created_at_after=0001-01-01T00:00:00+14:00", "created_at_after"),
        ("created_at_before=yesterday", "created_at_before"),
        ("cost_usd_is_null=maybe", "cost_usd_is_null"),
        ("program_id_in=7", "program_id_in"),
        ("actor_contains=\0", "actor_contains"),
        ("first=0", "first"),
        ("after=7", "after"),
    ],
)
def test_what_cannot_be_asked_of_a_list_is_an_error_that_names_the_field(
    text: str, field: str
) -> None:
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in text.split("&"))]
    with pytest.raises(InvalidError) as caught:
        query_from(EXECUTION, pairs)
    assert [problem.path for problem in caught.value.fields] == [field]
    assert caught.value.message.startswith(f"{field}: ")


def test_numbers_that_a_database_cannot_hold_and_too_many_values_are_refused() -> None:
    for name, value in (
        ("execution_count_gte", 2**31),
        ("execution_count", -(2**31) - 1),
        ("name_in", ["x"] * (MAX_MEMBERS + 1)),
    ):
        with pytest.raises(InvalidError, match=f"^{name}: "):
            where_of(PROGRAM, {name: value})
    assert where_of(PROGRAM, {"name": "a", "execution_count_gte": 2}) == {
        "name": "a",
        "execution_count": Match((("gte", 2),)),
    }


def _forged(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


KEY = "01a204e7-d265-770f-a3da-97f8004ff7a9"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        KEY,
        "!!!",
        "ä",
        _forged(7),
        _forged(["cost_usd", 1.0, "x"]),
        _forged(["-cost_usd", 1.0, KEY]),
        _forged(["duration_ms", 1.0, KEY]),
        _forged(["cost_usd", "1", KEY]),
        _forged(["cost_usd", True, KEY]),
        _forged(["cost_usd", 10**400, KEY]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_a_cursor_of_another_order_or_of_nobody_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidError) as caught:
        continue_after(EXECUTION, Query(sort=Sort("cost_usd")), cursor)
    assert [problem.path for problem in caught.value.fields] == ["after"]


@examples()
@given(st.text())
def test_no_text_makes_more_of_a_cursor_than_a_refusal(text: str) -> None:
    for name in ("cost_usd", "created_at", "status", None):
        with pytest.raises(InvalidError, match=r"^after: "):
            continue_after(EXECUTION, Query(sort=Sort(name) if name else None), text)


@examples()
@given(st.floats(allow_nan=False, allow_infinity=False) | st.none())
def test_a_cursor_keeps_a_number_to_its_last_bit(value: float | None) -> None:
    class Row:
        id = KEY
        cost_usd = value

    row: Any = Row()
    sort = Sort("cost_usd", is_descending=True)
    assert continue_after(EXECUTION, Query(sort=sort), cursor_of(row, sort)).after_value == value
