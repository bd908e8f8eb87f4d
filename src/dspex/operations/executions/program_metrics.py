"""Figures over the executions of a program."""

from dataclasses import dataclass
from datetime import datetime

from dspex.operations.executions.records import EXECUTION
from dspex.operations.framework.action import action
from dspex.operations.framework.attribute_kinds import Probability
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Figures, Measure
from dspex.operations.programs.actions import ProgramRef
from dspex.operations.programs.records import PROGRAM, ProgramRecord
from dspex.operations.programs.stored_programs import find_program


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramMetrics:
    """Figures over all stored executions of a program. Times cover completed executions only.

    `success_rate` covers completed and failed executions. `cost_usd` is the sum of the known
    prices, or null if no price is known.
    """

    program: ProgramRecord
    total: int
    completed: int
    failed: int
    cancelled: int
    interrupted: int
    success_rate: Probability | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    last_executed_at: datetime | None


@action(PROGRAM, scope="read")
async def program_metrics(operations: Operations, request: ProgramRef) -> ProgramMetrics:
    """Figures over all executions of a program."""
    program = await find_program(operations, request.program_id, request.name)
    figures = operations.services[Figures]
    where = {"status": "completed"}
    measures = {
        "total": Measure(kind="count"),
        **{name: Measure(kind="count", where={"status": name}) for name in _ENDS},
        "mean_ms": Measure(kind="mean", of="duration_ms", where=where),
        "p50_ms": Measure(kind="p50", of="duration_ms", where=where),
        "p95_ms": Measure(kind="p95", of="duration_ms", where=where),
        "input_tokens": Measure(kind="sum", of="usage.input_tokens"),
        "output_tokens": Measure(kind="sum", of="usage.output_tokens"),
        "cost_usd": Measure(kind="sum", of="cost_usd"),
    }
    results = await figures.aggregate(EXECUTION, {"program_id": program.id}, measures)
    attempts = results["completed"] + results["failed"]
    tokens = {name: int(results.pop(name) or 0) for name in ("input_tokens", "output_tokens")}
    return ProgramMetrics(
        program=program,
        success_rate=Probability(results["completed"] / attempts) if attempts else None,
        last_executed_at=program.last_executed_at,
        **tokens,
        **results,
    )


_ENDS = ("completed", "failed", "cancelled", "interrupted")
