"""A workspace stores as much as it may and no more, however many servers it has.

It sees its own figures.
"""

import asyncio
import dataclasses
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import Services, open_services
from dspex.clock import SystemClock
from dspex.errors import QuotaError
from dspex.operations.datasets.actions import CreateDataset
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.executions.retention import Retention
from dspex.operations.framework.access import Actor
from dspex.operations.framework.json_size import size_of, sizes_of
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Figures, Query
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.storage import Database, migrate
from dspex.operations.tenancy.actions import ConfigureWorkspace, CreateWorkspace
from dspex.operations.tenancy.quotas import Quotas
from dspex.operations.tenancy.usage import WORKSPACE_USAGE, usage_id
from dspex.settings import Settings
from dspex.testing import FakeClock

EXECUTION = DOMAIN["execution"]
_ACTIONS = {action.name: action for action in DOMAIN.actions}
GIVEN = ExecuteProgram(program="n", inputs={"q": "?"})


async def act(operations: Operations, name: str, request: object) -> Any:
    return await operations.perform(_ACTIONS[name], request)


async def team(services: Services, name: str = "team", **limits: int) -> Operations:
    """Make a workspace with a program, and return what one of its admins can do."""
    await act(services.operations, "create_workspace", CreateWorkspace(name=name))
    if limits:
        await act(
            services.operations, "configure_workspace", ConfigureWorkspace(name=name, **limits)
        )
    operations = services.operations.as_actor(Actor(name="ada", workspace=name))
    await create_program(
        operations, CreateProgram(name="n", signature="q -> n: int", backend="mock")
    )
    return operations


def quotas_of(executor: Executor) -> Quotas:
    assert executor.quotas is not None
    return executor.quotas


async def usage(services: Services, workspace: str = "team") -> Any:
    await quotas_of(services.operations.services[Executor]).flush()
    return await services.operations.dependencies.store.get(WORKSPACE_USAGE, id=usage_id(workspace))


async def test_executions_beyond_the_quota_are_refused_and_the_limit_is_named(
    on_each_database: Settings,
) -> None:
    async with open_services(on_each_database) as services:
        limited, free = await team(services, quota_executions=3), await team(services, "free")
        for _ in range(3):
            await execute_program(limited, GIVEN)
        with pytest.raises(
            QuotaError, match="stores 3 executions, and its quota_executions is 3"
        ) as caught:
            await execute_program(limited, GIVEN)
        assert caught.value.context["limit"] == "quota_executions"
        assert await limited.count(EXECUTION, {}) == 3
        for _ in range(5):
            await execute_program(free, GIVEN)
        assert (
            (await usage(services)).executions,
            (await usage(services, "free")).executions,
        ) == (3, 5)


async def test_bytes_of_executions_and_data_sets_count_and_what_is_over_is_refused(
    on_each_database: Settings,
) -> None:
    async with open_services(dataclasses.replace(on_each_database, quota_mib=2)) as services:
        limited = await team(services)
        await execute_program(limited, ExecuteProgram(program="n", inputs={"q": "x" * 1_000_000}))
        assert 1_000_000 < (await usage(services)).stored_bytes < 1_010_000
        rows = [{"q": "y" * 1000, "n": number} for number in range(1200)]
        await act(limited, "create_dataset", CreateDataset(name="d", rows=rows))
        for call in (
            execute_program(limited, GIVEN),
            act(limited, "create_dataset", CreateDataset(name="e", rows=rows)),
            create_program(
                limited, CreateProgram(name="m", signature="q -> n: int", backend="mock")
            ),
        ):
            with pytest.raises(QuotaError, match="MiB, and its quota_mib is 2"):
                await call
        await act(
            services.operations,
            "configure_workspace",
            ConfigureWorkspace(name="team", quota_mib=100),
        )
        fresh = services.operations.services[Executor].quotas
        assert fresh is not None
        fresh._balances.clear()  # as after a second
        await execute_program(limited, GIVEN)


async def test_a_refused_call_with_a_known_idempotency_key_gets_its_execution(
    on_each_database: Settings,
) -> None:
    async with open_services(on_each_database) as services:
        limited = await team(services, quota_executions=1)
        first = await execute_program(limited, dataclasses.replace(GIVEN, idempotency_key="k"))
        again = await execute_program(limited, dataclasses.replace(GIVEN, idempotency_key="k"))
        assert again.id == first.id
        with pytest.raises(QuotaError):
            await execute_program(limited, dataclasses.replace(GIVEN, idempotency_key="other"))


async def test_two_servers_on_one_database_keep_one_quota(on_each_database: Settings) -> None:
    async with open_services(on_each_database) as server, open_services(on_each_database) as peer:
        first = await team(server, quota_executions=100)
        second = peer.operations.as_actor(first.actor)
        refused = 0

        async def fill(operations: Operations) -> None:
            nonlocal refused
            for _ in range(120):
                try:
                    await execute_program(operations, GIVEN)
                except QuotaError:
                    refused += 1

        await asyncio.gather(fill(first), fill(second))
        count = await first.count(EXECUTION, {})
        await usage(peer)
        assert count == (await usage(server)).executions
        assert count + refused == 240
        assert 100 <= count <= 220  # each knows what the other did a second ago at the latest
        await asyncio.gather(
            *(
                quotas_of(services.operations.services[Executor])._read("team")
                for services in (server, peer)
            )
        )
        for operations in (first, second):
            with pytest.raises(QuotaError):
                await execute_program(operations, GIVEN)


async def test_what_others_wrote_is_known_within_a_second_and_near_the_limit_at_once(
    settings: Settings,
) -> None:
    clock = FakeClock()
    async with (
        open_services(settings, clock=clock) as server,
        open_services(settings, clock=clock) as peer,
    ):
        first = await team(server, quota_executions=20)
        second = peer.operations.as_actor(first.actor)
        await execute_program(second, GIVEN)
        await usage(peer)  # what its next second does
        for _ in range(17):
            await execute_program(first, GIVEN)
        await clock.advance(0.06)  # 18 of 20 by its own count: it looks again
        await execute_program(first, GIVEN)
        await execute_program(first, GIVEN)
        with pytest.raises(QuotaError):
            await execute_program(first, GIVEN)
        await usage(server)
        await clock.advance(1.1)
        with pytest.raises(QuotaError):
            await execute_program(second, GIVEN)


async def test_retention_makes_room(on_each_database: Settings) -> None:
    async with open_services(on_each_database) as services:
        limited = await team(services, quota_executions=3)
        for _ in range(3):
            await execute_program(limited, GIVEN)
        full = await usage(services)
        dependencies = services.operations.dependencies
        assert (
            await Retention(
                dependencies.store,
                lambda: dependencies.services[Figures],
                jobs=QUEUES.values(),
                clock=SystemClock(),
                count=1,
            ).tick()
            == 2
        )
        remaining = await usage(services)
        assert (remaining.executions, remaining.stored_bytes < full.stored_bytes) == (1, True)
        quotas_of(dependencies.services[Executor])._balances.clear()  # as after a second
        await execute_program(limited, GIVEN)


async def test_a_workspace_sees_its_own_usage_only(on_each_database: Settings) -> None:
    async with open_services(on_each_database) as services:
        first, second = await team(services, "one"), await team(services, "two")
        for operations in (first, second, second):
            await execute_program(operations, GIVEN)
        await usage(services)
        rows = [
            await operations.list(WORKSPACE_USAGE, Query(limit=10))
            for operations in (first, second)
        ]
        assert [[row.executions for row in usages] for usages in rows] == [[1], [2]]


async def test_what_a_database_holds_is_counted_when_it_is_brought_up_to_date(
    tmp_path: Path,
) -> None:
    settings = Settings(state_dir=tmp_path)

    async def look(before: float) -> None:
        async with open_services(settings) as services:
            row = await usage(services, "default")
            assert row.executions == 4
            assert abs(row.stored_bytes - before) < 0.2 * before

    async with open_services(settings) as services:
        await create_program(
            services.operations,
            CreateProgram(name="n", signature="q -> n: int", backend="mock"),
        )
        for _ in range(4):
            await execute_program(
                services.operations, ExecuteProgram(program="n", inputs={"q": "x" * 5000})
            )
    database = Database.embedded(tmp_path / "dspex.sqlite3")
    with sqlite3.connect(tmp_path / "dspex.sqlite3") as connection:
        [(before,)] = connection.execute("SELECT stored_bytes FROM workspace_usages").fetchall()
    connection.close()
    await migrate(database, to="0004")
    await database.aclose()
    before = float(before)
    await look(before)


def test_values_counted_at_once_count_as_much_as_each_by_itself() -> None:
    values = [{"a": [1, "\u00e9"]}, None, "x" * 1000, {}, [1.5, None], "", False]
    assert sizes_of(values) == sum(map(size_of, values)) > 1000
    assert sizes_of([]) == sizes_of([None, None]) == 0


def test_what_only_the_slower_encoder_stores_counts_too() -> None:
    for value in ({"n": 10**30}, {"q": "\ud800"}):
        text = json.dumps(value, separators=(",", ":"))
        assert size_of(value) == len(text)
        assert sizes_of([value, "four"]) == len(text) + 6
    assert size_of({"q": object()}) == 0
    assert sizes_of([float, "four"]) == 6
