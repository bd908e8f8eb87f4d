"""The inputs of actions on programs and executions; every surface creates these values."""

import math
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from dspex.operations.framework.attribute_kinds import LONGEST_EMBEDDING, Embedding
from dspex.operations.framework.field_errors import invalid

_LONGEST_TIMEOUT = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOf:
    """The vector for one input field."""

    field: str
    value: Embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteProgram:
    """Run the current version of a program, named by id or by name, on inputs by field name.

    `embeddings` are the inputs that are vectors; a field appears either there or in `inputs`.
    `backend` overrides the backend of the program for this run. After `timeout` seconds the run
    fails with the code "deadline". Two calls with the same `idempotency_key` are one execution: the
    second call waits for the first (for `timeout`, or 30 seconds) and returns its execution, which
    may still be running; with other inputs it is rejected. In the session `session_id`, the program
    gets the conversation in its input of the type History, and a completed execution adds a turn.
    """

    inputs: dict[str, Any]
    program_id: UUID | None = None
    program: str | None = None
    backend: str | None = None
    timeout: float | None = None
    idempotency_key: str | None = None
    embeddings: list[EmbeddingOf] = field(default_factory=list)
    session_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionOf:
    """A reference to an execution."""

    execution_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerExecution:
    """The answer to a question of an execution: the outputs of its signature by name.

    `question_id` may be left out if one question is open. A call that may be repeated names it: the
    same answer again changes nothing.
    """

    execution_id: UUID
    answer: dict[str, Any]
    question_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryExecution:
    """Repeat an execution that failed, was cancelled or was interrupted.

    After `timeout` seconds the run fails with the code "deadline". Two calls with the same
    `idempotency_key` are one execution, as in `execute_program`.
    """

    execution_id: UUID
    timeout: float | None = None
    idempotency_key: str | None = None


def check_call(request: ExecuteProgram | RetryExecution) -> None:
    """Check the timeout and the idempotency key.

    Raises:
        InvalidError: the message has the field.
    """
    if request.timeout is not None and not 0 < request.timeout <= _LONGEST_TIMEOUT:
        raise invalid(
            "timeout",
            request.timeout,
            f"a number of seconds, more than 0 and at most {_LONGEST_TIMEOUT}",
        )
    if request.idempotency_key is not None and not 0 < len(request.idempotency_key) <= 200:
        raise invalid("idempotency_key", request.idempotency_key, "a text of 1 to 200 characters")


def inputs_of(request: ExecuteProgram) -> dict[str, Any]:
    """Return all inputs of a call by field name.

    Raises:
        InvalidError: an embedding is invalid, or its field is also in `inputs`; the message has the
        field.
    """
    if not request.embeddings:
        return request.inputs
    inputs = dict(request.inputs)
    for embedding in request.embeddings:
        if embedding.field in inputs:
            raise invalid(
                embedding.field,
                embedding.value,
                "the only value of this field, which is given twice",
            )
        if not 1 <= len(embedding.value) <= LONGEST_EMBEDDING or not all(
            map(math.isfinite, embedding.value)
        ):
            raise invalid(
                embedding.field,
                embedding.value,
                f"a vector of 1 to {LONGEST_EMBEDDING} finite numbers",
            )
        inputs[embedding.field] = embedding.value
    return inputs
