"""What is stored of executions, and for how long."""

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dspex.bootstrap import Services, open_services
from dspex.clock import SystemClock
from dspex.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.executions.actions import execute_program, retry_execution
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import ExecuteProgram, RetryExecution
from dspex.operations.executions.redaction import PayloadPolicy, pattern_redactor
from dspex.operations.executions.retention import Retention
from dspex.operations.framework.access import Actor
from dspex.operations.framework.store import Figures, Query, Update
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.actions import ConfigureWorkspace, CreateWorkspace
from dspex.settings import Settings, read_settings
from dspex.testing import ScriptedModel
from tests.operations.programs.test_programs import operations_of

EXECUTION, EVENT = DOMAIN["execution"], DOMAIN["event"]
_ACTIONS = {action.name: action for action in DOMAIN.actions}
SECRET = "4111-1111"


async def run(services: Services, reply: str, **configuration: Any) -> tuple[Any, Any]:
    """Run once over a model that repeats its input; return the answer and the stored row."""
    operations = operations_of(services, model=ScriptedModel(reply))
    request = CreateProgram(name="qa", signature="card: str -> answer", configuration=configuration)
    await create_program(operations, request)
    execution = await execute_program(
        operations, ExecuteProgram(program="qa", inputs={"card": SECRET})
    )
    return execution, await operations.row(EXECUTION, execution.id)


def text(row: Any) -> str:
    return repr([row.inputs, row.outputs, row.error, row.trace])


async def test_a_program_that_stores_no_inputs_leaves_none_in_rows_traces_or_errors(
    settings: Settings,
) -> None:
    async with open_services(settings) as services:
        execution, stored = await run(services, "[[ ## answer ## ]]\nfine", store_inputs=False)
        assert (execution.inputs, execution.outputs) == ({"card": SECRET}, {"answer": "fine"})
        assert (stored.inputs, stored.payloads) == ({}, "withheld")
        assert SECRET not in text(stored)
        with pytest.raises(InvalidError) as caught:
            await execute_program(
                services.operations, ExecuteProgram(program="qa", inputs={"crad": SECRET})
            )
        assert "crad" in str(caught.value)
        [refused] = await services.operations.list(EXECUTION, Query(limit=1))
        assert refused.status == "failed"
        assert SECRET not in text(refused)
        with pytest.raises(ConflictError, match="withheld"):
            await retry_execution(services.operations, RetryExecution(execution_id=refused.id))


async def test_patterns_are_redacted_in_inputs_outputs_and_every_text_of_the_trace(
    settings: Settings,
) -> None:
    async with open_services(settings) as services:
        services.operations.services[Executor].recorder._payload_policy = PayloadPolicy(
            redact=pattern_redactor([r"\d{4}-\d{4}"])
        )
        executor = services.operations.services[Executor]
        model = ScriptedModel(f"[[ ## answer ## ]]\nyour card is {SECRET}")
        executor._context = msgspec.structs.replace(executor._context, model=model)
        operations = services.operations
        await create_program(operations, CreateProgram(name="qa", signature="card: str -> answer"))
        execution = await execute_program(
            operations, ExecuteProgram(program="qa", inputs={"card": SECRET})
        )
        stored = await operations.row(EXECUTION, execution.id)
        assert execution.outputs == {"answer": f"your card is {SECRET}"}
        assert stored.inputs == {"card": "(redacted)"}
        assert stored.outputs == {"answer": "your card is (redacted)"}
        assert (stored.payloads, SECRET in text(stored)) == ("redacted", False)
        assert "(redacted)" in stored.trace["spans"][0]["inputs_ref"]


async def test_a_redaction_hook_comes_from_the_code_root_and_its_failure_hides_all(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "privacy.py").write_text(
        "def by_field(place, value):\n"
        "    return {**value, 'q': '***'} if place == 'inputs' else value\n\n\n"
        "def broken(place, value):\n    raise KeyError(place)\n"
    )

    async def stored(hook: str) -> Any:
        variant = dataclasses.replace(settings, redact=f"privacy:{hook}", state_dir=tmp_path / hook)
        async with open_services(variant, code=CodeRoot(tmp_path)) as services:
            operations = services.operations
            await create_program(
                operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
            )
            execution = await execute_program(
                operations, ExecuteProgram(program="qa", inputs={"q": SECRET})
            )
            return await operations.row(EXECUTION, execution.id)

    assert (await stored("by_field")).inputs == {"q": "***"}
    hidden = await stored("broken")
    assert hidden.status == "completed"
    assert SECRET not in text(hidden)
    assert "KeyError" in hidden.inputs["(withheld)"]
    with pytest.raises(ConfigurationError, match="code root"):
        await unopened(dataclasses.replace(settings, redact="privacy:by_field"))


async def unopened(settings: Settings) -> None:
    async with open_services(settings):
        pass


def test_what_is_kept_is_set_in_the_file_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "dspex.toml").write_text(
        'redact_patterns = ["a+", "b"]\nkeep_days = 30\nstore_inputs = false\n'
    )
    result = read_settings({"DSPEX_REDACT": "privacy:redact"}, folder=tmp_path)
    assert (result.redact_patterns, result.keep_days, result.store_inputs) == (
        ("a+", "b"),
        30,
        False,
    )
    assert result.redact == "privacy:redact"
    with pytest.raises(ConfigurationError) as caught:
        read_settings(
            {"DSPEX_REDACT_PATTERNS": "(", "DSPEX_REDACT": "no", "DSPEX_KEEP_DAYS": "x"},
            folder=tmp_path,
        )
    assert len(caught.value.context["problems"]) == 3


class Later(SystemClock):
    """A clock that is some days ahead."""

    def __init__(self, days: float) -> None:
        self.days = days

    def now(self) -> Any:
        return super().now() + timedelta(days=self.days)


async def test_old_executions_go_and_those_of_a_without_limits_stay(
    on_each_database: Settings,
) -> None:
    async with open_services(on_each_database) as services:
        operations, dependencies = services.operations, services.operations.dependencies
        for name, configuration in {
            "a": {},
            "b": {"keep_days": 0},
            "c": {"keep_count": 1},
        }.items():
            request = CreateProgram(
                name=name, signature="q -> a", backend="mock", configuration=configuration
            )
            await create_program(operations, request)
            for _ in range(3):
                await execute_program(operations, ExecuteProgram(program=name, inputs={"q": "?"}))
        programs = {row.id: row.name for row in await operations.list(DOMAIN["program"], Query())}

        async def left() -> list[str]:
            rows = await operations.list(EXECUTION, Query(limit=99, oldest_first=True))
            return [programs[row.program_id] for row in rows]

        def retention(days: float) -> Retention:
            return Retention(
                dependencies.store,
                lambda: dependencies.services[Figures],
                jobs=QUEUES.values(),
                clock=Later(days),
                days=30,
            )

        assert await retention(0).tick() == 2
        assert await left() == [*"aaabbbc"]
        assert await retention(29).tick() == 0
        assert await retention(31).tick() == 4
        assert await left() == [*"bbb"]
        assert {programs[row.program_id] for row in await operations.list(EVENT, Query())} == {"b"}
        assert await operations.count(DOMAIN["audit_entry"], {"action": "execute_program"}) == 9


@pytest.mark.parametrize("days", [100_000, 1_000_000_000])
async def test_more_days_than_the_calendar_has_keep_everything(
    settings: Settings, days: int
) -> None:
    async with open_services(settings) as services:
        operations, dependencies = services.operations, services.operations.dependencies
        for name, configuration in {"own": {"keep_days": days}, "as_set": {}}.items():
            request = CreateProgram(
                name=name, signature="q -> a", backend="mock", configuration=configuration
            )
            await create_program(operations, request)
            await execute_program(operations, ExecuteProgram(program=name, inputs={"q": "?"}))
        retention = Retention(
            dependencies.store,
            lambda: dependencies.services[Figures],
            jobs=QUEUES.values(),
            clock=SystemClock(),
            days=min(days, 100_000),
        )
        assert await retention.tick() == 0
        assert await operations.count(EXECUTION, {}) == 2


@pytest.mark.parametrize("wrong", [{"store_inputs": "no"}, {"keep_days": -1}, {"keep_count": True}])
async def test_a_wrong_limit_is_refused(settings: Settings, wrong: dict[str, Any]) -> None:
    async with open_services(settings) as services:
        request = CreateProgram(name="qa", signature="q -> a", configuration=wrong)
        with pytest.raises(InvalidError, match="configuration"):
            await create_program(services.operations, request)


async def test_a_workspace_keeps_executions_as_it_says_and_touches_no_other(
    on_each_database: Settings,
) -> None:
    async with open_services(on_each_database) as services:
        mine, dependencies = services.operations, services.operations.dependencies
        tenants = {
            name: mine.as_actor(Actor(name=name, workspace=name))
            for name in ("short", "all", "as_set")
        }
        for name in tenants:
            await mine.perform(_ACTIONS["create_workspace"], CreateWorkspace(name=name))
        configure = _ACTIONS["configure_workspace"]
        for request in (
            ConfigureWorkspace(name="short", keep_days=5),
            ConfigureWorkspace(name="all", keep_days=0),
        ):
            await mine.perform(configure, request)
        for operations in (mine, *tenants.values()):
            for name, configuration in {"qa": {}, "own": {"keep_days": 20}}.items():
                program = CreateProgram(
                    name=name, signature="q -> a", backend="mock", configuration=configuration
                )
                await create_program(operations, program)
                await execute_program(operations, ExecuteProgram(program=name, inputs={"q": "?"}))

        async def left() -> dict[str, int]:
            counts = {"default": await mine.count(EXECUTION, {})}
            return counts | {
                name: await tenant.count(EXECUTION, {}) for name, tenant in tenants.items()
            }

        async def pruned(days: float) -> dict[str, int]:
            await Retention(
                dependencies.store,
                lambda: dependencies.services[Figures],
                jobs=QUEUES.values(),
                clock=Later(days),
                days=30,
            ).tick()
            return await left()

        assert await pruned(4) == {"default": 2, "short": 2, "all": 2, "as_set": 2}
        assert await pruned(6) == {"default": 2, "short": 1, "all": 2, "as_set": 2}
        assert await pruned(21) == {"default": 1, "short": 0, "all": 1, "as_set": 1}
        assert await pruned(31) == {"default": 0, "short": 0, "all": 1, "as_set": 0}
        again = await mine.perform(
            configure, ConfigureWorkspace(name="all", keep_days=-1, keep_count=3)
        )
        assert (again.keep_days, again.keep_count) == (None, 3)
        assert (await pruned(31))["all"] == 0


async def test_only_operators_say_how_long_a_workspace_keeps(settings: Settings) -> None:
    async with open_services(settings) as services:
        mine, configure = services.operations, _ACTIONS["configure_workspace"]
        await mine.perform(_ACTIONS["create_workspace"], CreateWorkspace(name="team"))
        team = mine.as_actor(Actor(name="t", workspace="team"))
        for operations, request, error in (
            (team, ConfigureWorkspace(name="team", keep_days=0), ForbiddenError),
            (mine, ConfigureWorkspace(name="default", keep_days=1), ConflictError),
            (mine, ConfigureWorkspace(name="nobody", keep_days=1), NotFoundError),
            (mine, ConfigureWorkspace(name="team"), InvalidError),
            (mine, ConfigureWorkspace(name="team", keep_days=-2), InvalidError),
            (mine, ConfigureWorkspace(name="team", keep_count=1 << 40), InvalidError),
        ):
            with pytest.raises(error):
                await operations.perform(configure, request)


async def test_a_run_that_outlives_its_parent_no_longer_points_to_it(
    on_each_database: Settings,
) -> None:
    async with open_services(on_each_database) as services:
        operations, dependencies = services.operations, services.operations.dependencies
        for name in ("outer", "inner"):
            await create_program(
                operations, CreateProgram(name=name, signature="q -> a", backend="mock")
            )
        parent, child = [
            await execute_program(operations, ExecuteProgram(program=name, inputs={"q": "?"}))
            for name in ("outer", "inner")
        ]
        store, figures = dependencies.store, dependencies.services[Figures]
        pointer = {"parent_id": parent.id}
        await store.write(Update(resource=EXECUTION, id=child.id, values=pointer))
        where = {"program_id": parent.program_id}
        pruned = await figures.prune(EXECUTION, where, before=None, keep=0)
        assert (pruned.rows, (await operations.row(EXECUTION, child.id)).parent_id) == (1, None)
