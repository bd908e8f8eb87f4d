"""Actions on programs, versions and signatures, performed as every surface performs them."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dspex import Predict
from dspex.bootstrap import Services, new_id, open_services
from dspex.errors import (
    ConflictError,
    DefinitionError,
    DspexError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from dspex.execution.backends import MockBackend
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.executions.process_owner import owner_of_this_process
from dspex.operations.framework.access import Actor
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query, Update
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.stored_programs import (
    find_program,
    program_value,
    save_program,
    save_signature_class,
)
from dspex.settings import Settings
from dspex.testing import ScriptedModel
from tests.operations.programs.test_programs import operations_of

COUNTED = ("program", "program_version", "execution", "evaluation")
ACTIONS = {action.name: action for action in DOMAIN.actions}


@pytest.fixture
def settings(on_each_database: Settings) -> Settings:
    return on_each_database


async def do(operations: Operations, action: str, **values: Any) -> Any:
    return await operations.perform(ACTIONS[action], ACTIONS[action].input(**values))


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, name: str = "qa"
) -> AsyncIterator[tuple[Operations, Services]]:
    async with open_services(settings) as services:
        request = CreateProgram(name=name, signature="q -> a: int", backend="mock")
        await create_program(services.operations, request)
        yield services.operations, services


async def test_metrics_of_a_program_are_figures_over_its_executions(settings: Settings) -> None:
    async with opened(settings) as (_, services):
        model = ScriptedModel("[[ ## a ## ]]\n1", "[[ ## a ## ]]\n2", "no", "no", cost_usd=0.5)
        operations = operations_of(services, model=model)
        empty = await do(operations, "program_metrics", name="qa")
        assert (empty.total, empty.success_rate, empty.p95_ms, empty.cost_usd) == (
            0,
            None,
            None,
            None,
        )
        await create_program(operations, CreateProgram(name="real", signature="q -> a: int"))
        for n in range(3):
            await execute_program(operations, ExecuteProgram(program="real", inputs={"q": str(n)}))
        result = await do(operations, "program_metrics", name="real")
        assert (result.total, result.completed, result.failed, result.cancelled) == (3, 2, 1, 0)
        assert result.success_rate == pytest.approx(2 / 3)
        rows = await operations.list(DOMAIN["execution"], Query(where={"status": "completed"}))
        times = sorted(row.duration_ms for row in rows)
        assert result.mean_ms == pytest.approx(sum(times) / 2)
        assert (result.p50_ms, result.p95_ms) == (
            pytest.approx(times[0]),
            pytest.approx(times[1]),
        )
        assert result.cost_usd == pytest.approx(1.0)
        assert result.input_tokens == sum(row.usage["input_tokens"] for row in rows)
        assert result.last_executed_at is not None


async def test_a_version_is_compared_with_another_and_activated(settings: Settings) -> None:
    async with open_services(settings) as services:
        operations = operations_of(services, mock=MockBackend([{"a": "x"}]))
        await save_program(operations, Predict("q -> a").to_program("qa"))
        demos = [{"q": "1", "a": "2"}]
        saved = await save_program(
            operations, Predict("q -> a", demos=demos, temperature=0.5).to_program("qa")
        )
        result = await do(operations, "diff_versions", name="qa", first=1, second=2)
        changes = {change["path"]: (change["before"], change["after"]) for change in result.changes}
        assert changes["assignment.self.demos"] == (None, demos)
        assert "temperature" in repr(
            [change for path, change in changes.items() if "config" in path]
        )
        back = await do(operations, "activate_version", name="qa", number=1)
        assert back.current_version_id == result.first.id != saved.current_version_id
        execution = await execute_program(
            operations, ExecuteProgram(program="qa", inputs={"q": "?"}, backend="mock")
        )
        assert execution.program_version_id == result.first.id
        with pytest.raises(NotFoundError, match="no version 3"):
            await do(operations, "activate_version", name="qa", number=3)


async def test_a_program_is_archived_and_a_broken_one_made_ready_again(settings: Settings) -> None:
    async with opened(settings) as (operations, _):
        program = await find_program(operations, name="qa")
        resource = DOMAIN["program"]
        await operations.store.write(
            Update(resource=resource, id=program.id, values={"status": "error"})
        )
        with pytest.raises(ConflictError, match="is error"):
            await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))
        assert (await do(operations, "initialize_program", name="qa")).status == "ready"
        broken = {"status": "error", "backend": "gone"}
        await operations.store.write(Update(resource=resource, id=program.id, values=broken))
        result = await do(operations, "initialize_program", name="qa")
        assert (result.status, result.error["code"]) == ("error", "invalid")
        working = {"status": "ready", "backend": "mock"}
        await operations.store.write(Update(resource=resource, id=program.id, values=working))
        assert (await do(operations, "archive_program", name="qa")).status == "archived"
        with pytest.raises(ConflictError, match="is archived"):
            await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))


async def test_a_program_is_renamed_and_reopened(settings: Settings) -> None:
    async with opened(settings) as (operations, _):
        await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))
        await create_program(operations, CreateProgram(name="other", signature="q -> a"))
        for name, error in (("other", ConflictError), ("a/b", InvalidError)):
            with pytest.raises(error):
                await do(operations, "rename_program", name="qa", new_name=name)
        assert (await do(operations, "rename_program", name="qa", new_name="answers")).name == (
            "answers"
        )
        with pytest.raises(NotFoundError):
            await find_program(operations, name="qa")
        program = await find_program(operations, name="answers")
        assert (await program_value(operations, program)).name == "answers"
        execution = await execute_program(
            operations, ExecuteProgram(program="answers", inputs={"q": "?"})
        )
        assert execution.program_id == program.id
        hint = "is archived: execute needs it to be ready; reopen makes it ready"
        with pytest.raises(ConflictError, match=hint):
            DOMAIN["program"].step("execute", "archived")
        with pytest.raises(ConflictError, match=r"is ready: reopen needs it to be archived$"):
            await do(operations, "reopen_program", name="answers")
        await do(operations, "archive_program", name="answers")
        assert (await do(operations, "reopen_program", name="answers")).status == "ready"
        await execute_program(operations, ExecuteProgram(program="answers", inputs={"q": "?"}))


async def test_a_program_is_deleted_with_all_that_belongs_to_it(settings: Settings) -> None:
    async with opened(settings) as (operations, _):
        first = await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))
        await create_program(
            operations, CreateProgram(name="other", signature="q -> a", backend="mock")
        )
        child = await execute_program(
            operations, ExecuteProgram(program="other", inputs={"q": "?"})
        )
        execution = DOMAIN["execution"]
        await operations.store.write(
            Update(resource=execution, id=child.id, values={"parent_id": first.id})
        )
        await do(operations, "create_dataset", name="rows", rows=[{"q": "?", "a": 1}])
        job = await do(operations, "create_evaluation", program="qa", dataset="rows")
        with pytest.raises(ConflictError, match=rf"the evaluation {job.id} is queued: cancel it"):
            await do(operations, "delete_program", name="qa")
        await do(operations, "cancel_evaluation", id=job.id)
        before = {name: await operations.count(DOMAIN[name], {}) for name in COUNTED}
        program = await find_program(operations, name="qa")
        result = await do(operations, "delete_program", name="qa")
        assert (result.name, result.versions, result.executions) == ("qa", 1, 1)
        assert (result.evaluations, result.optimizations) == (1, 0)
        after = {name: await operations.count(DOMAIN[name], {}) for name in COUNTED}
        assert [before[name] - after[name] for name in COUNTED] == [1, 1, 1, 1]
        kept = await operations.row(execution, child.id)
        assert kept.parent_id is None
        events = await operations.list(DOMAIN["event"], Query())
        assert {event.program_id for event in events} == {kept.program_id}
        [entry] = await operations.list(
            DOMAIN["audit_entry"], Query(where={"action": "delete_program"})
        )
        assert (entry.resource_id, entry.before["name"]) == (program.id, "qa")
        with pytest.raises(NotFoundError):
            await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))
        await create_program(operations, CreateProgram(name="qa", signature="q -> a"))


async def test_a_program_with_a_running_execution_is_not_deleted(settings: Settings) -> None:
    async with opened(settings) as (operations, _):
        execution = await execute_program(
            operations, ExecuteProgram(program="qa", inputs={"q": "?"})
        )
        # that of a live process: maintenance ends those of which no process knows
        values = {"status": "running", "owner": owner_of_this_process(new_id)}
        await operations.store.write(
            Update(resource=DOMAIN["execution"], id=execution.id, values=values)
        )
        with pytest.raises(ConflictError, match=f"the execution {execution.id} is running"):
            await do(operations, "delete_program", name="qa")
        assert (await find_program(operations, name="qa")).status == "ready"


async def test_a_draft_runs_after_it_is_initialized_and_an_error_leads_back(
    settings: Settings,
) -> None:
    """draft -> initializing -> ready; initializing -> error -> initializing -> ready."""
    table = DOMAIN["program"]

    async with open_services(settings) as services:
        operations = services.operations
        values = {"name": "d", "signature": "q -> a: int", "backend": "mock", "draft": True}
        result = await do(operations, "create_program", **values)
        assert (result.status, (await find_program(operations, name="d")).status) == (
            "draft",
            "draft",
        )
        with pytest.raises(ConflictError, match="is draft: execute needs it to be ready"):
            await execute_program(operations, ExecuteProgram(program="d", inputs={"q": "?"}))
        with pytest.raises(ConflictError, match="is draft: archive needs it to be ready"):
            await do(operations, "archive_program", name="d")
        await operations.store.write(
            Update(resource=table, id=result.id, values={"backend": "gone"})
        )
        broken = await do(operations, "initialize_program", name="d")
        assert (broken.status, broken.error["code"]) == ("error", "invalid")
        await operations.store.write(
            Update(resource=table, id=result.id, values={"backend": "mock"})
        )
        mended = await do(operations, "initialize_program", name="d")
        assert (mended.status, mended.error) == ("ready", None)
        assert (
            await execute_program(operations, ExecuteProgram(program="d", inputs={"q": "?"}))
        ).status == "completed"
        with pytest.raises(
            ConflictError, match="is ready: initialize needs it to be draft or error"
        ):
            await do(operations, "initialize_program", name="d")
        trail = await operations.list(
            DOMAIN["audit_entry"], Query(where={"resource": "program"}, oldest_first=True)
        )
        steps = [entry.after["status"] for entry in trail if entry.action == "initialize_program"]
        assert steps == ["initializing", "error", "initializing", "ready"]


CLASSES = """import dspex


class Triage(dspex.Signature):
    \"\"\"Route a message.\"\"\"

    message: str
    team: str = dspex.Output()


number = 7
"""


async def test_a_signature_class_is_stored_from_the_code_root_and_never_for_a_caller(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "signed_classes.py").write_text(CLASSES)

    async with open_services(settings, code=CodeRoot(tmp_path)) as services:
        operations = services.operations
        draft = await save_signature_class(operations, "signed_classes:Triage", is_draft=True)
        assert (draft.name, draft.version, draft.status, draft.source) == (
            "Triage",
            1,
            "draft",
            "class",
        )
        assert draft.instructions == "Route a message."
        await do(operations, "activate_signature", signature_id=draft.id)
        await create_program(
            operations, CreateProgram(name="t", signature="Triage", backend="mock")
        )
        with pytest.raises(
            DefinitionError, match="'signed_classes:number' is int, not a Signature class"
        ):
            await save_signature_class(operations, "signed_classes:number")
        with pytest.raises(DefinitionError, match="outside the code root"):
            await save_signature_class(operations, "json:JSONDecoder")
        caller = operations.as_actor(Actor(name="k", key_id=draft.id))
        with pytest.raises(ForbiddenError, match="command line only"):
            await save_signature_class(caller, "signed_classes:Triage")
        with pytest.raises(InvalidError, match="signature"):
            await do(caller, "create_signature", signature="signed_classes:Triage")
    sys.modules.pop("signed_classes", None)


async def test_a_signature_is_drafted_activated_and_deprecated(settings: Settings) -> None:
    async with open_services(settings) as services:
        operations = services.operations
        draft = await do(
            operations,
            "create_signature",
            signature="q -> a: int",
            name="Count",
            instructions="Count.",
            draft=True,
        )
        assert (draft.status, draft.name, draft.instructions) == ("draft", "Count", "Count.")
        with pytest.raises(InvalidError, match="no active signature"):
            await create_program(operations, CreateProgram(name="p", signature="Count"))
        assert (
            await do(operations, "activate_signature", signature_id=draft.id)
        ).status == "active"
        await create_program(operations, CreateProgram(name="p", signature="Count"))
        assert (
            await do(operations, "deprecate_signature", signature_id=draft.id)
        ).status == "deprecated"
        with pytest.raises(ConflictError, match="is deprecated"):
            await do(operations, "activate_signature", signature_id=draft.id)


async def test_no_action_reaches_into_another_workspace_or_beyond_its_scope(
    settings: Settings,
) -> None:
    async with opened(settings) as (operations, _):
        await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "?"}))
        data = await do(operations, "create_dataset", name="d", rows=[{"q": "x"}])
        stranger = operations.as_actor(Actor(name="eve", workspace="other"))
        program, execution = (
            (await find_program(operations, name="qa")).id,
            (await operations.list(DOMAIN["execution"], Query()))[0].id,
        )
        calls: list[tuple[str, dict[str, Any]]] = [
            *(
                (name, {"program_id": program})
                for name in ("archive_program", "initialize_program", "program_metrics")
            ),
            ("activate_version", {"program_id": program, "number": 1}),
            ("diff_versions", {"program_id": program, "first": 1, "second": 1}),
            ("configure_program", {"program_id": program, "keep_days": 1}),
            ("dataset_from_executions", {"name": "x", "program_id": program}),
            ("validate_dataset", {"dataset_id": data.id, "signature": "q -> a"}),
            ("sample_dataset", {"dataset_id": data.id, "count": 1}),
            ("cancel_execution", {"execution_id": execution}),
            ("retry_execution", {"execution_id": execution}),
        ]
        for name, values in calls:
            with pytest.raises(NotFoundError):
                await do(stranger, name, **values)
            barred = operations.as_actor(Actor(name="bob", scopes=frozenset()))
            with pytest.raises(ForbiddenError):
                await do(barred, name, **values)
        with pytest.raises(DspexError, match="is completed"):
            await do(operations, "cancel_execution", execution_id=execution)
