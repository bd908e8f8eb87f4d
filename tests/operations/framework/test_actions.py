"""Actions on data sets, programs, versions and signatures.

They are performed as every surface performs them.
"""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dspex import Predict
from dspex.bootstrap import Services, open_services
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
from dspex.operations.framework.access import Actor
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query, Update
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.stored_programs import (
    find_program,
    save_program,
    save_signature_class,
)
from dspex.settings import Settings
from dspex.testing import ScriptedModel
from tests.operations.framework.test_operations import operations_of

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
        given = CreateProgram(name=name, signature="q -> a: int", backend="mock")
        await create_program(services.operations, given)
        yield services.operations, services


async def test_rows_become_versions_of_a_data_set(settings: Settings) -> None:
    async with opened(settings) as (operations, _):
        rows = [{"q": str(n), "a": n if n else None} for n in range(5)]
        first = await do(operations, "create_dataset", name="d", rows=rows)
        assert (first.version, first.row_count, first.rows) == (1, 5, rows)
        assert first.schema == {
            "fields": {
                "q": {"types": ["str"], "rows": 5},
                "a": {"types": ["null", "int"], "rows": 5},
            }
        }
        assert (await do(operations, "create_dataset", name="d", rows=rows)).id == first.id
        second = await do(operations, "create_dataset", name="d", rows=rows[:2], split="test")
        assert second.version == 2
        drawn = [
            await do(operations, "sample_dataset", dataset_id=first.id, count=3, seed=7)
            for _ in range(2)
        ]
        assert drawn[0].numbers == drawn[1].numbers
        assert drawn[0].rows == [rows[n] for n in drawn[0].numbers]
        entries = await operations.list(DOMAIN["audit_entry"], Query(where={"resource": "dataset"}))
        assert {entry.action for entry in entries} == {"create_dataset"}
        assert [entry.after["rows"] for entry in entries] == [rows[:2], rows]
        await do(
            operations,
            "create_dataset",
            name="large",
            rows=[{"text": "x" * 100} for _ in range(500)],
        )
        [entry, *_] = await operations.list(
            DOMAIN["audit_entry"], Query(where={"resource": "dataset"})
        )
        assert (entry.after["name"], entry.after["rows"]) == ("large", "(56001 bytes)")


@pytest.mark.parametrize(
    ("action", "values", "field"),
    [
        ("create_dataset", {"name": "d", "rows": []}, "rows"),
        ("create_dataset", {"name": "d", "rows": [1]}, "rows"),
        ("create_dataset", {"name": "d", "rows": [{"a": object()}]}, "rows"),
        ("create_dataset", {"name": " ", "rows": [{"a": 1}]}, "name"),
        ("create_dataset", {"name": "d", "rows": [{"a": 1}], "split": "dev"}, "split"),
        ("dataset_from_executions", {"name": "d", "program": "qa", "status": "running"}, "status"),
        ("dataset_from_executions", {"name": "d", "program": "qa"}, "status"),
        ("dataset_from_executions", {"name": "d", "program": "qa", "limit": 0}, "limit"),
        ("create_signature", {"signature": "a -> b: strin"}, "signature"),
        ("configure_program", {"name": "qa", "keep_days": -1}, "keep_days"),
        ("create_evaluation", {"configuration": {"concurrency": 0}}, "configuration"),
        ("create_evaluation", {"configuration": {"limit": 0}}, "configuration"),
        ("create_optimization", {"configuration": {"holdout": 2}}, "configuration"),
        ("create_optimization", {"configuration": {"concurrency": 10**9}}, "configuration"),
        (
            "create_optimization",
            {"configuration": {"options": {"log_dir": "/somewhere"}}},
            "configuration",
        ),
    ],
)
async def test_a_wrong_value_is_refused_by_its_name(
    settings: Settings, action: str, values: dict[str, Any], field: str
) -> None:
    async with opened(settings) as (operations, _):
        with pytest.raises(InvalidError) as caught:
            await do(operations, action, **values)
        assert [error.field for error in caught.value.fields] == [field]


async def test_executions_become_a_data_set_without_those_whose_inputs_are_not_stored(
    settings: Settings,
) -> None:
    async with opened(settings) as (operations, _):
        for n in range(3):
            await execute_program(operations, ExecuteProgram(name="qa", inputs={"q": str(n)}))
        await do(operations, "configure_program", name="qa", store_inputs=False, keep_days=30)
        await execute_program(operations, ExecuteProgram(name="qa", inputs={"q": "secret"}))
        made = await do(operations, "dataset_from_executions", name="d", program="qa", limit=2)
        assert [row["q"] for row in made.rows] == ["2", "1"]
        assert all(isinstance(row["a"], int) for row in made.rows)
        program = await find_program(operations, name="qa")
        assert (program.configuration["store_inputs"], program.configuration["keep_days"]) == (
            False,
            30,
        )


async def test_a_data_set_is_checked_against_a_program_or_a_signature(settings: Settings) -> None:
    async with opened(settings) as (operations, _):
        rows = [{"q": "x", "a": 1}, {"q": "x"}, {"a": 1}, {"q": "x", "a": "many"}]
        await do(operations, "create_dataset", name="d", rows=rows)
        found = await do(operations, "validate_dataset", dataset="d", program="qa")
        assert (found.valid_rows, found.invalid_rows) == (2, 2)
        assert [(problem["row"], problem["field"]) for problem in found.problems] == [
            (2, "q"),
            (3, "a"),
        ]
        found = await do(operations, "validate_dataset", dataset="d", signature="q -> a")
        assert found.invalid_rows == 1
        for values in (
            {"dataset": "d"},
            {"program": "qa"},
            {"dataset": "d", "program": "qa", "signature": "q -> a"},
        ):
            with pytest.raises(InvalidError, match="either"):
                await do(operations, "validate_dataset", **values)
        with pytest.raises(NotFoundError):
            await do(operations, "validate_dataset", dataset="none", program="qa")


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
            await execute_program(operations, ExecuteProgram(name="real", inputs={"q": str(n)}))
        found = await do(operations, "program_metrics", name="real")
        assert (found.total, found.completed, found.failed, found.cancelled) == (3, 2, 1, 0)
        assert found.success_rate == pytest.approx(2 / 3)
        rows = await operations.list(DOMAIN["execution"], Query(where={"status": "completed"}))
        times = sorted(row.duration_ms for row in rows)
        assert found.mean_ms == pytest.approx(sum(times) / 2)
        assert (found.p50_ms, found.p95_ms) == (
            pytest.approx(times[0]),
            pytest.approx(times[1]),
        )
        assert found.cost_usd == pytest.approx(1.0)
        assert found.input_tokens == sum(row.usage["input_tokens"] for row in rows)
        assert found.last_executed_at is not None


async def test_a_version_is_compared_with_another_and_activated(settings: Settings) -> None:
    async with open_services(settings) as services:
        operations = operations_of(services, mock=MockBackend([{"a": "x"}]))
        await save_program(operations, Predict("q -> a").to_program("qa"))
        demos = [{"q": "1", "a": "2"}]
        saved = await save_program(
            operations, Predict("q -> a", demos=demos, temperature=0.5).to_program("qa")
        )
        found = await do(operations, "diff_versions", name="qa", first=1, second=2)
        changes = {change["path"]: (change["before"], change["after"]) for change in found.changes}
        assert changes["assignment.self.demos"] == (None, demos)
        assert "temperature" in repr(
            [change for path, change in changes.items() if "config" in path]
        )
        back = await do(operations, "activate_version", name="qa", number=1)
        assert back.current_version_id == found.first.id != saved.current_version_id
        ended = await execute_program(
            operations, ExecuteProgram(name="qa", inputs={"q": "?"}, backend="mock")
        )
        assert ended.program_version_id == found.first.id
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
            await execute_program(operations, ExecuteProgram(name="qa", inputs={"q": "?"}))
        assert (await do(operations, "initialize_program", name="qa")).status == "ready"
        broken = {"status": "error", "backend": "gone"}
        await operations.store.write(Update(resource=resource, id=program.id, values=broken))
        found = await do(operations, "initialize_program", name="qa")
        assert (found.status, found.error["code"]) == ("error", "invalid")
        working = {"status": "ready", "backend": "mock"}
        await operations.store.write(Update(resource=resource, id=program.id, values=working))
        assert (await do(operations, "archive_program", name="qa")).status == "archived"
        with pytest.raises(ConflictError, match="is archived"):
            await execute_program(operations, ExecuteProgram(name="qa", inputs={"q": "?"}))


async def test_a_draft_runs_after_it_is_initialized_and_an_error_leads_back(
    settings: Settings,
) -> None:
    """draft -> initializing -> ready; initializing -> error -> initializing -> ready."""
    table = DOMAIN["program"]

    async with open_services(settings) as services:
        operations = services.operations
        values = {"name": "d", "signature": "q -> a: int", "backend": "mock", "draft": True}
        made = await do(operations, "create_program", **values)
        assert (made.status, (await find_program(operations, name="d")).status) == (
            "draft",
            "draft",
        )
        with pytest.raises(ConflictError, match="is draft: execute needs it to be ready"):
            await execute_program(operations, ExecuteProgram(name="d", inputs={"q": "?"}))
        with pytest.raises(ConflictError, match="is draft: archive needs it to be ready"):
            await do(operations, "archive_program", name="d")
        await operations.store.write(Update(resource=table, id=made.id, values={"backend": "gone"}))
        broken = await do(operations, "initialize_program", name="d")
        assert (broken.status, broken.error["code"]) == ("error", "invalid")
        await operations.store.write(Update(resource=table, id=made.id, values={"backend": "mock"}))
        mended = await do(operations, "initialize_program", name="d")
        assert (mended.status, mended.error) == ("ready", None)
        assert (
            await execute_program(operations, ExecuteProgram(name="d", inputs={"q": "?"}))
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
        await execute_program(operations, ExecuteProgram(name="qa", inputs={"q": "?"}))
        data = await do(operations, "create_dataset", name="d", rows=[{"q": "x"}])
        stranger = operations.as_actor(Actor(name="eve", workspace="other"))
        program, execution = (
            (await find_program(operations, name="qa")).id,
            (await operations.list(DOMAIN["execution"], Query()))[0].id,
        )
        tried: list[tuple[str, dict[str, Any]]] = [
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
        for name, values in tried:
            with pytest.raises(NotFoundError):
                await do(stranger, name, **values)
            barred = operations.as_actor(Actor(name="bob", scopes=frozenset()))
            with pytest.raises(ForbiddenError):
                await do(barred, name, **values)
        with pytest.raises(DspexError, match="is completed"):
            await do(operations, "cancel_execution", execution_id=execution)
