"""One call, one execution.

Its stages, its key, its parent, its end by answer, deadline, cancellation or death.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dspex import Module, Prediction
from dspex.bootstrap import Services, new_id, open_services
from dspex.bootstrap.services import with_executor
from dspex.clock import SystemClock
from dspex.errors import ConflictError, InvalidError, StorageError, UnavailableError
from dspex.execution.backends import Backends, MockBackend, NativeBackend
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import (
    cancel_execution,
    execute_program,
    execute_record,
    retry_execution,
)
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import ExecuteProgram, ExecutionOf, RetryExecution
from dspex.operations.executions.maintenance import Maintenance
from dspex.operations.executions.process_owner import host
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.framework.access import Actor
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query, Update
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.stored_programs import find_program, save_program
from dspex.settings import Settings
from dspex.telemetry import Silent

EXECUTION = DOMAIN["execution"]
STAGES = [
    "definition",
    "input_validation",
    "backend_execution",
    "output_validation",
    "serialization",
]


@pytest.fixture
def settings(on_each_database: Settings) -> Settings:
    return on_each_database


class Held(MockBackend):
    """A backend whose answers wait until they are let go."""

    def __init__(self) -> None:
        super().__init__([{"a": "yes"}])
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()

    async def execute_program(
        self, handle: Any, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        self.begun.set()
        await self.let_go.wait()
        return await super().execute_program(handle, inputs, context)


class Counting:
    """A store that counts its transactions, and can be away."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.writes: list[int] = []
        self.away = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, *changes: Any) -> None:
        if self.away:
            self.away -= 1
            raise StorageError("away")
        self.writes.append(len(changes))
        await self._store.write(*changes)


class Process:
    """What one process has over the database that several share."""

    def __init__(self, services: Services, backend: Any) -> None:
        dependencies = services.operations.dependencies
        backends = Backends({"native": NativeBackend(), "mock": backend, "hybrid": backend})
        self.store = Counting(dependencies.store)
        self.backend = backend
        self.executor = Executor(
            self.store, context=RunContext(), clock=SystemClock(), new_id=new_id, backends=backends
        )
        dependencies = with_executor(
            dataclasses.replace(dependencies, store=self.store), self.executor
        ).with_services({Backends: backends})
        self.operations = Operations(dependencies, actor=Actor(name="ada"))
        self.keeper = Maintenance(self.store, self.executor, clock=SystemClock(), observer=Silent())

    def start(self, **values: Any) -> "asyncio.Task[ExecutionRecord]":
        request = ExecuteProgram(**{"program": "qa", "inputs": {"q": "?"}, **values})
        return asyncio.create_task(execute_program(self.operations, request))

    async def rows(self, **where: Any) -> list[ExecutionRecord]:
        return list(await self.operations.list(EXECUTION, Query(where=where)))


@contextlib.asynccontextmanager
async def processes(
    settings: Settings, count: int = 1, backend: Any = Held
) -> AsyncIterator[list[Process]]:
    async with open_services(settings) as services:
        members = [Process(services, backend()) for _ in range(count)]
        await create_program(
            members[0].operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
        )
        yield members


def quick() -> MockBackend:
    return MockBackend([{"a": "yes"}])


async def test_an_execution_is_two_transactions_and_tells_its_five_stages(
    settings: Settings,
) -> None:
    async with processes(settings, backend=quick) as [process]:
        process.store.writes.clear()
        execution = await process.start()
        assert process.store.writes == [4, 2]
        stored = await process.operations.row(EXECUTION, execution.id)
        assert dataclasses.replace(stored, lock_version=0) == execution
        assert [(stage["stage"], stage["status"]) for stage in stored.stages] == [
            (s, "passed") for s in STAGES
        ]
        assert all(stage["ms"] >= 0 for stage in stored.stages)
        assert stored.queue_ms >= 0
        assert (stored.actor, stored.owner) == ("ada", process.executor.owner)
        events = await process.operations.list(DOMAIN["event"], Query(oldest_first=True))
        assert [(event.subject_id, event.payload["status"]) for event in events] == [
            (execution.id, "running"),
            (execution.id, "completed"),
        ]
        entries = await process.operations.list(
            DOMAIN["audit_entry"], Query(where={"resource_id": execution.id})
        )
        assert [(entry.actor, entry.action) for entry in entries] == [("ada", "execute_program")]


@pytest.mark.parametrize(
    ("script", "stage", "trace"),
    [
        ([RuntimeError("bug")], "backend_execution", ["error"]),
        ([{"b": 1}], "backend_execution", ["error"]),
    ],
)
async def test_a_failure_names_its_stage_and_keeps_its_trace(
    settings: Settings, script: Any, stage: str, trace: list[str]
) -> None:
    async with processes(settings, backend=lambda: MockBackend(script)) as [process]:
        execution = await process.start()
        assert execution.status == "failed"
        statuses = {item["stage"]: item["status"] for item in execution.stages or []}
        assert statuses[stage] == "failed"
        assert statuses["serialization"] == "skipped"
        assert execution.trace is not None
        assert [span["status"] for span in execution.trace["spans"]] == trace


async def test_inputs_that_do_not_fit_fail_in_their_stage_in_one_transaction(
    settings: Settings,
) -> None:
    async with processes(settings, backend=quick) as [process]:
        process.store.writes.clear()
        with pytest.raises(InvalidError):
            await process.start(inputs={"x": 1})
        assert process.store.writes == [4]
        [row] = await process.rows()
        assert [stage["status"] for stage in row.stages or []] == [
            "passed",
            "failed",
            "skipped",
            "skipped",
            "skipped",
        ]


async def test_calls_with_one_key_are_one_execution_in_any_process(settings: Settings) -> None:
    async with processes(settings, 2) as [first, second]:
        calls = [
            process.start(idempotency_key="k") for process in (first, second) for _ in range(4)
        ]
        starts = [asyncio.create_task(process.backend.begun.wait()) for process in (first, second)]
        await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
        for process in (first, second):
            process.backend.let_go.set()
        results = await asyncio.gather(*calls)
        assert len({row.id for row in results}) == 1
        assert {row.status for row in results} == {"completed"}
        assert len(first.backend.calls) + len(second.backend.calls) == 1
        assert len(await first.rows()) == 1
        starts[0].cancel(), starts[1].cancel()


async def test_a_key_with_other_inputs_is_a_conflict(settings: Settings) -> None:
    async with processes(settings, backend=quick) as [process]:
        first = await process.start(idempotency_key="k")
        with pytest.raises(ConflictError, match="other inputs") as caught:
            await process.start(idempotency_key="k", inputs={"q": "!"})
        assert caught.value.execution_id == str(first.id)
        with pytest.raises(InvalidError):
            await process.start(idempotency_key="bad", inputs={"x": 1})
        with pytest.raises(InvalidError) as again:
            await process.start(idempotency_key="bad", inputs={"x": 1})
        assert {error.field for error in again.value.fields} == {"q", "x"}
        assert len(await process.rows()) == 2


async def test_a_repeated_call_gets_a_long_execution_as_running(settings: Settings) -> None:
    async with processes(settings) as [process]:
        task = process.start(idempotency_key="k")
        await process.backend.begun.wait()
        repeated = await process.start(idempotency_key="k", timeout=0.05)
        assert repeated.status == "running"
        process.backend.let_go.set()
        assert (await task).id == repeated.id


async def test_an_execution_inside_another_is_its_child(settings: Settings) -> None:
    deadlines: list[int | None] = []

    class Calling(MockBackend):
        process: Process

        async def execute_program(
            self, handle: Any, inputs: Mapping[str, Any], context: RunContext
        ) -> Prediction:
            deadlines.append(context.deadline)
            if inputs["q"] == "outer":
                await asyncio.gather(*(self.process.start(inputs={"q": "inner"}) for _ in range(2)))
            return await super().execute_program(handle, inputs, context)

    async with processes(settings, backend=lambda: Calling([{"a": "yes"}])) as [process]:
        process.backend.process = process
        outer = await process.start(inputs={"q": "outer"}, timeout=60)
        children = await process.rows(parent_id=outer.id)
        assert [child.inputs for child in children] == [{"q": "inner"}] * 2
        assert outer.parent_id is None
        first, *others = deadlines
        assert first is not None
        assert all(later == pytest.approx(first, abs=10e9) for later in others)


async def test_a_deadline_ends_a_run_with_a_typed_error(settings: Settings) -> None:
    async with processes(settings) as [process]:
        execution = await process.start(timeout=0.05)
        assert execution.error is not None
        assert (execution.status, execution.error["code"]) == ("failed", "deadline")
        assert execution.deadline_at is not None
        for wrong in (0, -1, 1e9):
            with pytest.raises(InvalidError, match="timeout"):
                await process.start(timeout=wrong)


async def test_an_execution_is_cancelled_at_once_where_it_runs(settings: Settings) -> None:
    async with processes(settings) as [process]:
        task = process.start()
        await process.backend.begun.wait()
        [row] = await process.rows()
        cancelled = await cancel_execution(process.operations, ExecutionOf(execution_id=row.id))
        assert cancelled.status == "cancelled"
        assert (await task).status == "cancelled"
        with pytest.raises(ConflictError, match="is cancelled"):
            await cancel_execution(process.operations, ExecutionOf(execution_id=row.id))
        assert (await find_program(process.operations, name="qa")).execution_count == 1


async def test_an_execution_is_cancelled_from_another_process_within_a_second(
    settings: Settings,
) -> None:
    async with processes(settings, 2) as [running, second], running.keeper:
        task = running.start()
        await running.backend.begun.wait()
        [row] = await second.rows()
        await cancel_execution(second.operations, ExecutionOf(execution_id=row.id))
        async with asyncio.timeout(1.0):
            assert (await task).status == "cancelled"


async def test_what_a_dead_process_left_is_interrupted_and_can_be_retried(
    settings: Settings,
) -> None:
    async with processes(settings, 2) as [dead, survivor]:
        task = dead.start()
        await dead.backend.begun.wait()
        [row] = await survivor.rows()
        assert await survivor.keeper.sweep() == 0
        owner = f"{host()}:{2**22 - 1}:1:{new_id().hex}"
        await survivor.store.write(Update(resource=EXECUTION, id=row.id, values={"owner": owner}))
        assert await survivor.keeper.sweep() == 1
        dead.backend.let_go.set()
        assert (await task).status == "interrupted"
        survivor.backend.let_go.set()
        again = await retry_execution(survivor.operations, RetryExecution(execution_id=row.id))
        assert (again.status, again.retry_of, again.inputs) == ("completed", row.id, {"q": "?"})
        with pytest.raises(ConflictError, match="is completed"):
            await retry_execution(survivor.operations, RetryExecution(execution_id=again.id))


async def test_a_key_whose_execution_was_interrupted_runs_once_more_for_all_who_call(
    settings: Settings,
) -> None:
    async with processes(settings, 3) as [dead, *living]:
        task = dead.start(idempotency_key="k")
        await dead.backend.begun.wait()
        [row] = await dead.rows()
        owner = f"{host()}:{2**22 - 1}:1:{new_id().hex}"
        await dead.store.write(Update(resource=EXECUTION, id=row.id, values={"owner": owner}))
        assert await living[0].keeper.sweep() == 1
        dead.backend.let_go.set()
        assert (await task).status == "interrupted"
        for process in living:
            process.backend.let_go.set()
        results = await asyncio.gather(
            *[member.start(idempotency_key="k") for member in living for _ in range(3)]
        )
        assert len({again.id for again in results}) == 1
        assert {(again.status, again.retry_of, again.idempotency_key) for again in results} == {
            ("completed", row.id, "k")
        }
        assert sum(len(process.backend.calls) for process in living) == 1
        [newest, oldest] = await dead.rows()
        assert (newest.id, newest.retry_of, newest.idempotency_key) == (
            results[0].id,
            row.id,
            "k",
        )
        assert (oldest.id, oldest.status, oldest.idempotency_key) == (
            row.id,
            "interrupted",
            None,
        )
        with pytest.raises(ConflictError, match="other inputs"):
            await living[0].start(idempotency_key="k", inputs={"q": "!"})


async def test_a_repeated_refusal_says_the_same(settings: Settings) -> None:
    async with processes(settings, backend=quick) as [process]:
        messages = []
        for _ in range(2):
            with pytest.raises(InvalidError) as caught:
                await process.start(idempotency_key="bad", inputs={"x": "5"})
            messages.append([field.to_dict() for field in caught.value.fields])
        assert messages[0] == messages[1]
        assert {field["value"] for field in messages[0]} == {"'5'", "None"}


class Turned(SystemClock):
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.added = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.added


async def test_a_process_of_another_host_is_gone_when_its_heartbeat_stands_still(
    settings: Settings,
) -> None:
    async with processes(settings, 2) as [remote, here]:
        clock = Turned()
        keeper = Maintenance(here.store, here.executor, clock=clock, observer=Silent())
        task = remote.start()
        await remote.backend.begun.wait()
        [row] = await here.rows()
        remote.executor.owner = owner = remote.executor.owner.replace(host(), "elsewhere")
        await here.store.write(Update(resource=EXECUTION, id=row.id, values={"owner": owner}))
        for _ in range(3):
            await remote.keeper.send_heartbeat()
            clock.added += int(9e9)
            assert await keeper.sweep() == 0
        clock.added += int(6e9)
        assert await keeper.sweep() == 0
        clock.added += int(6e9)
        assert await keeper.sweep() == 1
        remote.backend.let_go.set()
        assert (await task).status == "interrupted"


async def test_an_outage_of_the_database_ends_no_execution_of_another_host(
    settings: Settings,
) -> None:
    async with processes(settings, 2) as [remote, here]:
        clock = Turned()
        keeper = Maintenance(here.store, here.executor, clock=clock, observer=Silent())
        task = remote.start()
        await remote.backend.begun.wait()
        [row] = await here.rows()
        remote.executor.owner = owner = remote.executor.owner.replace(host(), "elsewhere")
        await here.store.write(Update(resource=EXECUTION, id=row.id, values={"owner": owner}))
        assert await keeper.sweep() == 0
        clock.added += int(60e9)  # no sweep and no heartbeat was possible meanwhile
        assert await keeper.sweep() == 0
        await remote.keeper.send_heartbeat()
        clock.added += int(5e9)
        assert await keeper.sweep() == 0
        remote.backend.let_go.set()
        assert (await task).status == "completed"


async def test_a_chore_that_fails_keeps_none_of_the_others_from_being_done(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with processes(settings) as [mine]:
        runs: list[str] = []

        async def broken() -> None:
            raise ZeroDivisionError

        async def fine() -> None:
            runs.append("fine")

        mine.keeper.add(0, broken)
        mine.keeper.add(0, fine)
        await mine.keeper.tick()
        await mine.keeper.tick()
        assert runs == ["fine", "fine"]
    assert [
        record.levelname for record in caplog.records if "maintenance task failed" in record.message
    ] == ["ERROR"] * 2


async def test_a_process_that_is_stopped_lets_runs_end_and_refuses_new_ones(
    settings: Settings,
) -> None:
    async with processes(settings) as [process]:
        first = process.start()
        await process.backend.begun.wait()
        draining = asyncio.create_task(process.executor.runs.drain(30))
        while not process.executor.runs.is_draining:
            await asyncio.sleep(0)
        with pytest.raises(UnavailableError) as caught:
            await process.start()
        assert caught.value.is_retryable
        process.backend.let_go.set()
        assert await draining == 0
        assert (await first).status == "completed"


async def test_what_still_runs_when_the_grace_ends_is_interrupted(settings: Settings) -> None:
    async with processes(settings) as [process]:
        task = process.start()
        await process.backend.begun.wait()
        assert await process.executor.runs.drain(0.01) == 1
        execution = await task
        assert execution.error is not None
        assert (execution.status, execution.error["code"], execution.error["retryable"]) == (
            "interrupted",
            "interrupted",
            True,
        )


async def test_an_end_outlives_a_short_absence_of_the_database(settings: Settings) -> None:
    async with processes(settings) as [process]:
        task = process.start()
        await process.backend.begun.wait()
        process.store.away = 2
        process.backend.let_go.set()
        assert (await task).status == "completed"
        assert [row.status for row in await process.rows()] == ["completed"]


async def test_a_program_that_another_process_archived_is_not_executed(settings: Settings) -> None:
    async with processes(settings, 2, backend=quick) as [first, second]:
        await first.start()
        program = await find_program(second.operations, name="qa")
        await second.store.write(
            Update(resource=DOMAIN["program"], id=program.id, values={"status": "archived"})
        )
        with pytest.raises(ConflictError, match="is archived"):
            await first.start()
        assert len(await first.rows()) == 1


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("sys.exit(3)", "asked to end the process: SystemExit(3)"),
        ("raise asyncio.CancelledError", "the program's own code cancelled it"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_code_that_wants_to_end_more_than_itself_is_a_failed_execution(
    settings: Settings, tmp_path: Path, kind: str, last: str, message: str
) -> None:
    name = f"ending_{new_id().hex}"
    source = (
        f"import asyncio\nimport sys\nimport dspex\n\n\n@dspex.program\n{kind} f(q: str) -> str:\n "
        f"   {last}\n"
    )
    (tmp_path / f"{name}.py").write_text(source)
    code = CodeRoot(tmp_path)

    async with open_services(settings, code=code) as services:
        record = await save_program(services.operations, code.load(f"{name}:f").to_program("f"))
        execution = await execute_record(services.operations, record, {"q": "?"})
        assert execution.status == "failed"
        assert execution.error is not None
        assert message in execution.error["message"]
        assert [row.status for row in await services.operations.list(EXECUTION, Query())] == [
            "failed"
        ]


async def test_programs_written_in_code_call_stored_ones_as_children(
    settings: Settings, tmp_path: Path
) -> None:
    from dspex.execution.modules import CodeRoot

    module = f"family_{new_id().hex}"  # imported once for each database
    (tmp_path / f"{module}.py").write_text(
        "import dspex\n\n\nclass Outer(dspex.Module):\n"
        "    signature = 'q -> a'\n\n"
        "    async def forward(self, q):\n"
        "        inner = await self.stored(q=q)\n"
        "        return {'a': inner['a']}\n"
    )

    async with open_services(settings, code=CodeRoot(tmp_path)) as services:
        operations = services.operations
        await create_program(
            operations, CreateProgram(name="inner", signature="q -> a", backend="mock")
        )

        async def stored(_self: Module, **inputs: Any) -> Any:
            execution = await execute_program(
                operations, ExecuteProgram(program="inner", inputs=inputs)
            )
            return execution.outputs

        outer: Any = CodeRoot(tmp_path).load(f"{module}:Outer")
        outer.stored = stored
        record = await save_program(operations, outer().to_program("outer"))
        execution = await execute_program(
            operations, ExecuteProgram(program_id=record.id, inputs={"q": "?"})
        )
        assert execution.status == "completed"
        [child] = await operations.list(EXECUTION, Query(where={"parent_id": execution.id}))
        assert child.outputs == execution.outputs
