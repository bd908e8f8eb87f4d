"""The actions on executions."""

import dataclasses
from typing import Any

from dspex.errors import ConflictError
from dspex.operations.executions.execution_recorder import ExecuteOptions
from dspex.operations.executions.execution_run import ProgramCall
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import (
    ExecuteProgram,
    ExecutionOf,
    RetryExecution,
    check_call,
    inputs_of,
)
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.operations.framework.action import action
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.records import ProgramRecord
from dspex.operations.programs.stored_programs import find_program, no_program, program_key


@action(EXECUTION, scope="execute")
async def execute_program(operations: Operations, request: ExecuteProgram) -> ExecutionRecord:
    """Run a program once; the execution is stored even if it fails.

    Raises:
        NotFoundError: the program does not exist.
        ConflictError: the program is not ready.
        InvalidError: the inputs are invalid; the error has the id of the stored, failed
            execution.
    """
    check_call(request)
    inputs = inputs_of(request)
    key = program_key(request.program_id, request.name)
    executor = operations.services[Executor]
    program = await executor.program_cache.program(operations.workspace, key)
    if program is None:
        raise no_program(key)
    options = ExecuteOptions(
        actor=operations.actor.name,
        backend=request.backend,
        idempotency_key=request.idempotency_key,
        timeout=request.timeout,
    )
    return await executor.execute(program, inputs, options)


async def execute_record(
    operations: Operations,
    program: ProgramRecord,
    inputs: dict[str, Any],
    *,
    backend: str | None = None,
    model: str | None = None,
    call: ProgramCall | None = None,
) -> ExecutionRecord:
    """Run the current version of `program`, or `call` in its place; see `execute_program`."""
    options = ExecuteOptions(actor=operations.actor.name, backend=backend, model=model)
    return await operations.services[Executor].execute(program, inputs, options, call=call)


@action(EXECUTION, scope="execute")
async def cancel_execution(operations: Operations, request: ExecutionOf) -> ExecutionRecord:
    """Cancel a running execution, in any process.

    Raises:
        NotFoundError: the execution does not exist.
        ConflictError: it has ended.
    """
    record = await operations.row(EXECUTION, request.execution_id)
    EXECUTION.step("cancel", record.status)
    await operations.services[Executor].cancel(record, actor=operations.actor.name)
    return await operations.row(EXECUTION, request.execution_id)


@action(EXECUTION, scope="execute")
async def retry_execution(operations: Operations, request: RetryExecution) -> ExecutionRecord:
    """Run the same inputs on the same version again, as a new execution.

    Raises:
        NotFoundError: the execution does not exist.
        ConflictError: it has not ended or was completed, or its inputs are redacted or not
            stored.
    """
    original = await operations.row(EXECUTION, request.execution_id)
    if original.status not in {"failed", "cancelled", "interrupted"}:
        raise ConflictError(
            f"the execution is {original.status}: only failed, cancelled and interrupted "
            "executions can be retried"
        )
    if original.payloads != "stored":
        raise ConflictError(
            f"the inputs of this execution are {original.payloads}: execute the program with "
            "the inputs instead"
        )
    check_call(request)
    program = dataclasses.replace(
        await find_program(operations, original.program_id),
        current_version_id=original.program_version_id,
    )
    options = ExecuteOptions(
        actor=operations.actor.name,
        action=operations.action,
        backend=original.backend,
        idempotency_key=request.idempotency_key,
        timeout=request.timeout,
        retry_of=original.id,
    )
    return await operations.services[Executor].execute(program, original.inputs, options)
