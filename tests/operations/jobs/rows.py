"""Rows that tests of jobs begin with."""

from datetime import UTC, datetime
from typing import Any

from dspex import Predict
from dspex.bootstrap import new_id
from dspex.clock import SystemClock
from dspex.execution.backends import Backends
from dspex.operations.datasets.records import DatasetRecord
from dspex.operations.evaluations.records import EvaluationRecord
from dspex.operations.framework.dependencies import Dependencies, ServiceRegistry
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert, Store
from dspex.operations.programs.records import ProgramRecord
from dspex.operations.programs.stored_programs import save_program

ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(12)]


async def a_program(
    store: Store, *, name: str = "qa", backend: str = "mock", **settings: Any
) -> ProgramRecord:
    """Store a program of one predictor."""
    heavy = HeavyWork()
    services = ServiceRegistry({HeavyWork: heavy, Backends: _Any()})
    operations = Operations(
        Dependencies(store=store, clock=SystemClock(), new_id=new_id, services=services)
    )
    program = Predict("question -> answer", **settings).to_program(name)
    try:
        return await save_program(operations, program, backend=backend)
    finally:
        heavy.close()


class _Any(dict[str, object]):
    """Takes every backend."""

    def __contains__(self, key: object) -> bool:
        return True

    def check(self, name: str) -> None:
        """Refuse nothing."""


async def a_dataset(
    store: Store, rows: list[Any] | None = None, *, name: str = "questions"
) -> DatasetRecord:
    """Store a data set."""
    now, rows = datetime.now(UTC), rows or ROWS
    record = DatasetRecord(
        id=new_id(),
        workspace="default",
        created_at=now,
        updated_at=now,
        name=name,
        version=1,
        split="train",
        schema={},
        rows=rows,
        row_count=len(rows),
        checksum="",
        source="test",
    )
    await store.write(Insert(record))
    return record


async def a_job(
    store: Store, *, program: ProgramRecord | None = None, **values: Any
) -> EvaluationRecord:
    """Store a queued evaluation."""
    program = program or await a_program(store, name=f"qa-{new_id()}")
    data = await a_dataset(store, values.pop("rows", None), name=f"questions-{new_id()}")
    now = datetime.now(UTC)
    settings = {
        "metrics": ["exact_match"],
        "configuration": {},
        "needs": {},
        "progress": {},
        **values,
    }
    assert program.current_version_id is not None
    record = EvaluationRecord(
        id=new_id(),
        workspace="default",
        created_at=now,
        updated_at=now,
        program_id=program.id,
        program_version_id=program.current_version_id,
        dataset_id=data.id,
        **settings,
    )
    await store.write(Insert(record))
    return record
