"""Programs are created, versioned and executed; every execution leaves one row."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dspex import Predict, Signature
from dspex.bootstrap import Services, new_id, open_services
from dspex.bootstrap.services import with_executor
from dspex.clock import SystemClock
from dspex.errors import (
    ConfigurationError,
    ConflictError,
    DspexError,
    InvalidError,
    ModelUnavailableError,
    NotFoundError,
)
from dspex.execution.backends import Backends, MockBackend, NativeBackend
from dspex.execution.context import RunContext
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.programs.actions import ConfigureProgram, configure_program, create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.stored_programs import (
    current_version,
    find_program,
    program_value,
    save_program,
    save_signature,
)
from dspex.settings import Settings
from dspex.testing import ScriptedModel

if TYPE_CHECKING:
    from dspex.operations.executions.records import ExecutionRecord

EXECUTION = DOMAIN["execution"]


def operations_of(
    services: Services, *, model: Any = None, mock: MockBackend | None = None
) -> Operations:
    """The same services with another model or mock."""
    dependencies = services.operations.dependencies
    backends = Backends({"native": NativeBackend(), "mock": mock or MockBackend()})
    context = RunContext(model=model, models=services.context.models, records_payloads=True)
    executor = Executor(
        dependencies.store, context=context, clock=SystemClock(), new_id=new_id, backends=backends
    )
    return Operations(with_executor(dependencies, executor).with_services({Backends: backends}))


async def test_a_program_is_created_ready_and_executed_on_a_model(settings: Settings) -> None:
    async with open_services(settings) as services:
        model = ScriptedModel("[[ ## answer ## ]]\nParis", cost_usd=0.25)
        operations = operations_of(services, model=model)
        result = await create_program(
            operations,
            CreateProgram(
                name="qa", signature="question -> answer", configuration={"temperature": 0.5}
            ),
        )
        assert (result.status, result.execution_count) == ("ready", 0)
        execution = await execute_program(
            operations, ExecuteProgram(program="qa", inputs={"question": "capital?"})
        )
        assert (execution.status, execution.outputs, execution.cost_usd) == (
            "completed",
            {"answer": "Paris"},
            0.25,
        )
        assert model.requests[0].temperature == 0.5
        assert execution.usage is not None
        assert execution.usage["calls"] == 1
        assert execution.trace is not None
        assert [span["kind"] for span in execution.trace["spans"]] == ["model", "module"]
        assert "capital?" in execution.trace["spans"][0]["inputs_ref"]
        stored = await operations.row(EXECUTION, execution.id)
        assert stored.outputs == execution.outputs
        assert (await find_program(operations, name="qa")).execution_count == 1


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"signature": "question -> answer: strin"}, "signature"),
        ({"signature": "nothing-stored"}, "signature"),
        ({"module": "predikt"}, "module"),
        ({"backend": "nativ"}, "backend"),
        ({"configuration": {"temprature": 1}}, "configuration"),
        ({"configuration": {"adapter": "yaml"}}, "configuration"),
        ({"name": "  "}, "name"),
        ({"configuration": {"keep_days": -1}}, "configuration"),
        ({"configuration": {"instructions": 5}}, "configuration"),
    ],
)
async def test_a_wrong_definition_names_its_field_and_stores_nothing(
    settings: Settings, values: dict[str, Any], field: str
) -> None:
    async with open_services(settings) as services:
        definition = {"name": "qa", "signature": "question -> answer", **values}
        with pytest.raises(InvalidError) as caught:
            await create_program(services.operations, CreateProgram(**definition))
        assert [error.field for error in caught.value.fields] == [field]
        assert await services.operations.count(DOMAIN["program"], {}) == 0
        assert await services.operations.count(DOMAIN["signature"], {}) == 0


async def test_all_that_is_wrong_of_a_definition_is_told_at_once(settings: Settings) -> None:
    configuration = {"isolation": "cage", "keep_days": -1, "store_inputs": "no", "instructions": 5}
    wrong = {"name": " ", "signature": "q -> a: strin", "module": "predikt", "backend": "nativ"}

    async with open_services(settings) as services:
        create = partial(create_program, services.operations)
        with pytest.raises(InvalidError) as caught:
            await create(CreateProgram(**wrong, configuration=configuration))
        paths = [error.path for error in caught.value.fields]
        assert sorted(paths) == sorted(
            [*wrong, *(f"configuration.{name}" for name in configuration)]
        )
        assert all(path in caught.value.message for path in paths)
        with pytest.raises(InvalidError) as caught:
            await create(CreateProgram(name="", signature="q ->", configuration={"temprature": 1}))
        assert [error.path for error in caught.value.fields] == [
            "name",
            "signature",
            "configuration",
        ]


async def test_a_second_program_of_the_same_name_is_a_conflict(settings: Settings) -> None:
    async with open_services(settings) as services:
        request = CreateProgram(name="qa", signature="question -> answer")
        await create_program(services.operations, request)
        with pytest.raises(ConflictError, match="'qa' exists already"):
            await create_program(services.operations, request)


async def test_of_two_creations_at_once_one_wins(settings: Settings) -> None:
    async with open_services(settings) as services:
        request = CreateProgram(name="qa", signature="question -> answer")
        results = await asyncio.gather(
            *(create_program(services.operations, request) for _ in range(5)),
            return_exceptions=True,
        )
        refused = [item for item in results if isinstance(item, ConflictError)]
        assert ["'qa' exists already; choose another name" in str(error) for error in refused] == [
            True
        ] * 4
        assert await services.operations.count(DOMAIN["program"], {}) == 1


async def test_what_is_stored_under_one_name_at_once_becomes_versions(
    on_each_database: Settings,
) -> None:
    async with open_services(on_each_database) as services:
        operations = services.operations
        stored: list[Any] = await asyncio.gather(
            *(save_signature(operations, Signature(f"q{n} -> a", name="S")) for n in range(3)),
            *(save_program(operations, Predict(f"q{n} -> a").to_program("qa")) for n in range(3)),
        )
        assert sorted(row.version for row in stored[:3]) == [1, 2, 3]
        versions = await operations.list(DOMAIN["program_version"], Query())
        assert [row.number for row in versions] == [3, 2, 1]


async def test_settings_that_are_made_at_once_are_all_kept(on_each_database: Settings) -> None:
    async with open_services(on_each_database) as services:
        operations = services.operations
        await create_program(
            operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
        )
        await asyncio.gather(
            configure_program(operations, ConfigureProgram(name="qa", store_inputs=False)),
            configure_program(operations, ConfigureProgram(name="qa", keep_days=3)),
            configure_program(operations, ConfigureProgram(name="qa", keep_count=7)),
            execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"})),
        )
        configuration = (await find_program(operations, name="qa")).configuration
        assert configuration == {"store_inputs": False, "keep_days": 3, "keep_count": 7}


async def test_saving_equal_contents_changes_nothing_and_other_contents_make_a_version(
    settings: Settings,
) -> None:
    async with open_services(settings) as services:
        operations = services.operations
        first = await save_program(operations, Predict("question -> answer").to_program("qa"))
        again = await save_program(operations, Predict("question -> answer").to_program("qa"))
        assert again.current_version_id == first.current_version_id
        demos = [{"question": "a", "answer": "b"}]
        changed = await save_program(
            operations, Predict("question -> answer", demos=demos).to_program("qa")
        )
        assert changed.id == first.id
        version = await current_version(operations, changed)
        assert (version.number, version.parent_id) == (2, first.current_version_id)
        assert version.assignment == {"self.demos": demos}
        assert (await program_value(operations, changed)).assignment == {"self.demos": demos}


async def test_inputs_that_do_not_fit_are_refused_and_leave_one_failed_execution(
    settings: Settings,
) -> None:
    async with open_services(settings) as services:
        operations = services.operations
        await create_program(
            operations, CreateProgram(name="n", signature="n: int -> m: int", backend="mock")
        )
        with pytest.raises(InvalidError) as caught:
            await execute_program(
                operations, ExecuteProgram(program="n", inputs={"n": "x", "k": object()})
            )
        assert {error.field for error in caught.value.fields} == {"n", "k"}
        rows = await operations.list(EXECUTION, Query())
        assert [(row.status, str(row.id)) for row in rows] == [
            ("failed", caught.value.execution_id)
        ]
        assert rows[0].error["code"] == "invalid"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ModelUnavailableError("down"), "model_unavailable"),
        (RuntimeError("a bug in user code"), "execution"),
    ],
)
async def test_a_run_that_fails_leaves_one_failed_execution(
    settings: Settings, fault: Exception, code: str
) -> None:
    async with open_services(settings) as services:
        operations = operations_of(services, mock=MockBackend([fault]))
        await create_program(
            operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
        )
        execution = await execute_program(
            operations, ExecuteProgram(program="qa", inputs={"q": "?"})
        )
        assert execution.error is not None
        assert (execution.status, execution.error["code"]) == ("failed", code)
        assert [row.status for row in await operations.list(EXECUTION, Query())] == ["failed"]


async def test_a_reply_that_cannot_be_read_leaves_one_failed_execution_after_the_fallback(
    settings: Settings,
) -> None:
    async with open_services(settings) as services:
        model = ScriptedModel("no idea")
        operations = operations_of(services, model=model)
        await create_program(operations, CreateProgram(name="qa", signature="q -> n: int"))
        execution = await execute_program(
            operations, ExecuteProgram(program="qa", inputs={"q": "?"})
        )
        assert execution.error is not None
        assert (execution.status, execution.error["code"]) == ("failed", "adapter")
        assert len(model.requests) == 2


async def test_without_a_model_the_error_shows_how_to_set_one(settings: Settings) -> None:
    async with open_services(settings) as services:
        await create_program(services.operations, CreateProgram(name="qa", signature="q -> a"))
        execution = await execute_program(
            services.operations, ExecuteProgram(program="qa", inputs={"q": "?"})
        )
        assert execution.status == "failed"
        assert execution.error is not None
        assert "DSPEX_MODEL" in execution.error["message"]


async def test_a_cancelled_run_is_recorded_as_cancelled(settings: Settings) -> None:
    async with open_services(settings) as services:
        started = asyncio.Event()

        async def hang(_request: Any) -> str:
            started.set()
            await asyncio.Event().wait()
            return ""

        class Hanging(ScriptedModel):
            async def complete(self, request: Any) -> Any:
                return await hang(request)

        operations = operations_of(services, model=Hanging("never"))
        await create_program(operations, CreateProgram(name="qa", signature="q -> a"))
        task = asyncio.create_task(
            execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))
        )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rows: list[ExecutionRecord] = await operations.list(EXECUTION, Query())
        assert [row.status for row in rows] == ["cancelled"]


async def test_an_unknown_program_is_not_found_and_leaves_no_execution(settings: Settings) -> None:
    async with open_services(settings) as services:
        for request in (
            ExecuteProgram(program="qa", inputs={}),
            ExecuteProgram(program_id=new_id(), inputs={}),
        ):
            with pytest.raises(NotFoundError):
                await execute_program(services.operations, request)
        with pytest.raises(InvalidError, match="either"):
            await execute_program(services.operations, ExecuteProgram(inputs={}))
        assert await services.operations.count(EXECUTION, {}) == 0


async def test_a_stored_signature_can_be_named(settings: Settings) -> None:
    async with open_services(settings) as services:
        operations = services.operations
        await save_signature(operations, "question -> answer: int")
        first = await operations.list(DOMAIN["signature"], Query())
        result = await create_program(operations, CreateProgram(name="qa", signature=first[0].name))
        assert result.signature_id == first[0].id


async def test_the_state_folder_is_announced_when_it_is_made(
    settings: Settings, messages: list[str], say: Callable[[str], None]
) -> None:
    for _ in range(2):
        async with open_services(settings, say=say):
            pass
    assert len(messages) == 1
    assert str(settings.state_dir) in messages[0]


async def test_an_unusable_state_folder_is_an_error_that_names_it(settings: Settings) -> None:
    settings.state_dir.write_text("a file where the folder should be")

    with pytest.raises(DspexError, match="DSPEX_STATE_DIR"):
        async with open_services(settings):
            pass


async def test_an_unknown_model_is_refused_at_the_start(settings: Settings) -> None:
    from dataclasses import replace

    with pytest.raises(ConfigurationError, match="Did you mean 'openai'"):
        async with open_services(replace(settings, model="opnai/gpt")):
            pass
