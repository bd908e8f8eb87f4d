"""The actions on executions."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dspex.errors import ConflictError, InputError, NotFoundError
from dspex.language.signatures import Signature
from dspex.operations.executions.execution_recorder import ExecuteOptions
from dspex.operations.executions.execution_run import ProgramCall
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import (
    AnswerExecution,
    ExecuteProgram,
    ExecutionOf,
    RetryExecution,
    check_call,
    inputs_of,
)
from dspex.operations.executions.records import EXECUTION, ExecutionRecord, QuestionRecord
from dspex.operations.framework.action import action
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.missing_rows import missing_row
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.records import PROGRAM, ProgramRecord
from dspex.operations.programs.stored_programs import find_program, program_key


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
    key = program_key(request.program_id, request.program)
    executor = operations.services[Executor]
    program = await executor.program_cache.program(operations.workspace, key)
    if program is None:
        raise await missing_row(operations, PROGRAM, key)
    options = ExecuteOptions(
        actor=operations.actor.name,
        backend=request.backend,
        idempotency_key=request.idempotency_key,
        timeout=request.timeout,
        session_id=request.session_id,
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
    """Run the current version of `program`, or `call` in its place; see `execute_program`.

    It never waits for people: a question that nobody answers here is an error of the program.
    """
    options = ExecuteOptions(
        actor=operations.actor.name, backend=backend, model=model, may_wait=False
    )
    return await operations.services[Executor].execute(program, inputs, options, call=call)


@action(EXECUTION, scope="execute")
async def cancel_execution(operations: Operations, request: ExecutionOf) -> ExecutionRecord:
    """Cancel a running or waiting execution, in any process.

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


@action(EXECUTION, scope="execute")
async def answer_execution(operations: Operations, request: AnswerExecution) -> ExecutionRecord:
    """Answer a question of an execution, which then goes on; approvals need the scope write.

    Raises:
        NotFoundError: the execution or the question does not exist.
        ConflictError: the question is not open any more, and had another answer.
        InvalidError: the answer does not fit, or several questions are open and none is named.
    """
    record = await operations.row(EXECUTION, request.execution_id)
    executor = operations.services[Executor]
    question = await _question(operations, record, request.question_id)
    if question.kind == "approval":
        operations.actor.require("write", "answering an approval")
    answer = _answer_in_json(question, request.answer)
    if question.status == "open":
        try:
            await executor.answer(question, answer, actor=operations.actor.name)
        except ConflictError:  # somebody else was faster, perhaps with the same answer
            question = await _question(operations, record, question.id)
            if question.status == "open":
                raise
        else:
            return await operations.row(EXECUTION, request.execution_id)
    if question.status != "answered" or question.answer != answer:
        raise ConflictError(
            f"the question {str(question.id)!r} is {question.status} already",
            status=question.status,
        )
    return await operations.row(EXECUTION, request.execution_id)


def _answer_in_json(question: QuestionRecord, answer: Mapping[str, Any]) -> dict[str, Any]:
    signature = Signature.from_dict(question.signature)
    try:
        return signature.output_validator.dump(signature.validate_outputs(answer))
    except InputError as error:
        problems = "\n".join(f"  {field.path}: {field.message}" for field in error.fields)
        raise error.with_message(f"the answer does not fit:\n{problems}") from None


async def _question(
    operations: Operations, record: ExecutionRecord, key: UUID | None
) -> QuestionRecord:
    """Return the question with this id, or else the only one that is open."""
    questions = await operations.services[Executor].questions.questions(record.id)
    if key is not None:
        named = [question for question in questions if question.id == key]
        if not named:
            raise NotFoundError(f"the execution has no question {str(key)!r}")
        return named[0]
    are_open = [question for question in questions if question.status == "open"]
    if len(are_open) > 1:
        ids = ", ".join(str(question.id) for question in are_open)
        raise invalid("question_id", key, f"the id of one of the open questions: {ids}")
    if not are_open:
        raise ConflictError(f"the execution is {record.status} and has no open question")
    return are_open[0]
