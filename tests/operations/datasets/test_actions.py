"""Actions on data sets, performed as every surface performs them."""

from typing import Any

import pytest

from dspex.errors import InvalidError, NotFoundError
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.store import Query
from dspex.operations.programs.stored_programs import find_program
from dspex.settings import Settings
from tests.operations.programs.test_actions import do, opened


@pytest.fixture
def settings(on_each_database: Settings) -> Settings:
    return on_each_database


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
        samples = [
            await do(operations, "sample_dataset", dataset_id=first.id, count=3, seed=7)
            for _ in range(2)
        ]
        assert samples[0].numbers == samples[1].numbers
        assert samples[0].rows == [rows[n] for n in samples[0].numbers]
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
            await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": str(n)}))
        await do(operations, "configure_program", name="qa", store_inputs=False, keep_days=30)
        await execute_program(operations, ExecuteProgram(program="qa", inputs={"q": "secret"}))
        result = await do(operations, "dataset_from_executions", name="d", program="qa", limit=2)
        assert [row["q"] for row in result.rows] == ["2", "1"]
        assert all(isinstance(row["a"], int) for row in result.rows)
        program = await find_program(operations, name="qa")
        assert (program.configuration["store_inputs"], program.configuration["keep_days"]) == (
            False,
            30,
        )


async def test_a_data_set_is_checked_against_a_program_or_a_signature(settings: Settings) -> None:
    async with opened(settings) as (operations, _):
        rows = [{"q": "x", "a": 1}, {"q": "x"}, {"a": 1}, {"q": "x", "a": "many"}]
        await do(operations, "create_dataset", name="d", rows=rows)
        result = await do(operations, "validate_dataset", dataset="d", program="qa")
        assert (result.valid_rows, result.invalid_rows) == (2, 2)
        assert [(problem["row"], problem["field"]) for problem in result.problems] == [
            (2, "q"),
            (3, "a"),
        ]
        result = await do(operations, "validate_dataset", dataset="d", signature="q -> a")
        assert result.invalid_rows == 1
        for values in (
            {"dataset": "d"},
            {"program": "qa"},
            {"dataset": "d", "program": "qa", "signature": "q -> a"},
        ):
            with pytest.raises(InvalidError, match="either"):
                await do(operations, "validate_dataset", **values)
        with pytest.raises(NotFoundError):
            await do(operations, "validate_dataset", dataset="none", program="qa")
