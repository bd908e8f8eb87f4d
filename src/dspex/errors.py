"""Every error that dspex raises, in one tree.

DspexError
    DefinitionError
        SignatureError
        VariableError
        ConfigurationError
    ExecutionError
        InputError
        ModelError
            RateLimitedError
            ModelTimeoutError
            ModelUnavailableError
            ContextTooLongError
            RefusedError
        AdapterError
        ToolError
        RetrievalError
        SandboxError
        WorkerError
            WorkerStartError
            WorkerLostError
            WorkerTimeoutError
            WorkerStalledError
            WorkerProtocolError
            FrameTooLargeError
            PoolExhaustedError
            CircuitOpenError
            RestartLimitError
            PoolRestingError
            NotJsonError
        StaleCodeError
        BudgetError
            DeadlineError
        RepetitionError
        CheckError
        MediaError
        UnavailableError
        QuestionExpiredError
    WaitingForAnswerError
        DivergenceError
    ActionError
        InvalidError
        NotFoundError
        ConflictError
            NotBetterError
        ForbiddenError
        QuotaError
    StorageError
        SchemaError
    InternalError

`code` is for programs, the message for people. `is_retryable`: the same call may succeed later
without a change.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Self

from dspex.error_text import CodeFrame, FieldError, place_of

__all__ = [
    "ActionError", "AdapterError", "BudgetError", "CheckError", "CircuitOpenError",
    "ConfigurationError", "ConflictError", "ContextTooLongError", "DeadlineError",
    "DefinitionError", "DivergenceError", "DspexError", "ExecutionError", "FieldError",
    "ForbiddenError", "FrameTooLargeError", "InputError", "InternalError", "InvalidError",
    "MediaError", "ModelError", "ModelTimeoutError", "ModelUnavailableError", "NotBetterError",
    "NotFoundError", "NotJsonError", "PoolExhaustedError", "PoolRestingError",
    "QuestionExpiredError", "QuotaError", "RateLimitedError", "RefusedError", "RepetitionError",
    "RestartLimitError", "RetrievalError", "SandboxError", "SchemaError", "SignatureError",
    "StaleCodeError", "StorageError", "ToolError", "UnavailableError", "VariableError",
    "WaitingForAnswerError", "WorkerError", "WorkerLostError", "WorkerProtocolError",
    "WorkerStalledError", "WorkerStartError", "WorkerTimeoutError",
]  # fmt: skip


class DspexError(Exception):
    """The root: catch this to catch everything that dspex raises on purpose."""

    code = "error"
    is_retryable = False

    def __init__(
        self,
        message: str,
        /,
        *,
        errors: Sequence[FieldError] = (),
        execution_id: str | None = None,
        public_message: str | None = None,
        remote_frames: Sequence[CodeFrame] = (),
        **context: object,
    ) -> None:
        """Take a message for people.

        Args:
            message: what is wrong, with the value and the fix.
            errors: the field errors; kept as `fields`.
            execution_id: the stored execution that the error is about.
            public_message: what callers of a server see instead of the message.
            remote_frames: the user's lines behind an error of another process; see `failures`.
            context: any number of named values for programs.
        """
        super().__init__(message)
        self.message = message
        self.public_message = message if public_message is None else public_message
        self.fields = tuple(errors)
        self.execution_id = execution_id
        self.remote_frames = tuple(remote_frames)
        self.context: dict[str, Any] = context

    def with_message(self, message: str, /, **context: object) -> Self:
        """Return a copy with another message and more context; it keeps all other attributes."""
        error = copy(self)
        error.args, error.message, error.context = (message,), message, {**self.context, **context}
        if self.public_message == self.message:
            error.public_message = message
        return error

    def to_dict(self) -> dict[str, object]:
        """Return code, message, retryability and field errors as JSON-ready values."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.is_retryable,
            "fields": [error.to_dict() for error in self.fields],
        }


class DefinitionError(DspexError):
    """A declaration is wrong; running it again cannot help."""

    code = "definition"


class SignatureError(DefinitionError):
    """A signature, field, type or constraint is declared wrongly."""

    code = "signature"


class VariableError(DefinitionError):
    """A variable, space or assignment is declared wrongly."""

    code = "variable"


class ConfigurationError(DefinitionError):
    """A setting is missing, unknown or contradicts another."""

    code = "configuration"


class ExecutionError(DspexError):
    """A program was declared well and could not be carried out."""

    code = "execution"


class InputError(ExecutionError):
    """Values do not fit the fields that they are for; `fields` lists each of them with its path."""

    code = "input"


class ModelError(ExecutionError):
    """A language model could not be reached or did not answer usefully.

    `status` is the HTTP status of the answer, if there was one; `is_sent` is False if the request
    never reached the server; `retry_after` are the seconds that the provider asks to wait, if any.
    `route` says which models a route has tried, and which it has not.
    """

    code = "model"

    def __init__(
        self,
        message: str,
        /,
        *,
        status: int | None = None,
        is_sent: bool = True,
        retry_after: float | None = None,
        **context: Any,
    ) -> None:
        super().__init__(message, **context)
        self.status = status
        self.is_sent = is_sent
        self.retry_after = retry_after
        self.route: dict[str, Any] | None = None


class RateLimitedError(ModelError):
    """The provider refuses for now; `retry_after` holds seconds if the provider named them."""

    code = "rate_limited"
    is_retryable = True


class ModelTimeoutError(ModelError):
    """The model did not answer in time."""

    code = "model_timeout"
    is_retryable = True


class ModelUnavailableError(ModelError):
    """The server cannot be reached, dropped the connection, or failed (a status from 500)."""

    code = "model_unavailable"
    is_retryable = True


class ContextTooLongError(ModelError):
    """The request is longer than the model reads."""

    code = "context_too_long"


class RefusedError(ModelError):
    """The provider refuses this request: credentials, policy, or an unknown model."""

    code = "refused"


class AdapterError(ExecutionError):
    """A reply could not be read as the outputs of its signature."""

    code = "adapter"


class ToolError(ExecutionError):
    """A tool failed or was called with unfit arguments."""

    code = "tool"


class SandboxError(ExecutionError):
    """A sandbox cannot run code: it did not start, its session has ended, or a value is no JSON."""

    code = "sandbox"


class RetrievalError(ExecutionError):
    """A retriever could not answer."""

    code = "retrieval"


class WorkerError(ExecutionError):
    """A worker process died, hung or spoke nonsense; the call may be made again.

    `retry_after` are the seconds until then, if they are known.
    """

    code = "worker"
    is_retryable = True

    def __init__(
        self, message: str, /, *, retry_after: float | None = None, **context: Any
    ) -> None:
        super().__init__(message, **context)
        self.retry_after = retry_after


class WorkerStartError(WorkerError):
    """A worker could not be started or failed its handshake; check its interpreter."""

    code = "worker_start"
    is_retryable = False


class WorkerLostError(WorkerError):
    """The worker that held the call ended before it answered."""

    code = "worker_lost"


class WorkerTimeoutError(WorkerError):
    """The worker did not answer by the deadline of the call."""

    code = "worker_timeout"


class WorkerStalledError(WorkerError):
    """The code in a worker kept it busy for too long without a pause, so the worker was ended."""

    code = "worker_stalled"
    is_retryable = False


class WorkerProtocolError(WorkerError):
    """The worker sent bytes or a message that the protocol does not know; it is replaced."""

    code = "worker_protocol"


class FrameTooLargeError(WorkerError):
    """A message is longer than a frame may be; the same call can never pass."""

    code = "frame_too_large"
    is_retryable = False


class PoolExhaustedError(WorkerError):
    """Every worker is taken, and the queue is full or the deadline passed in it."""

    code = "pool_exhausted"


class CircuitOpenError(WorkerError):
    """Calls of this pool failed in a row, so none is let through for `retry_after` seconds."""

    code = "circuit_open"


class RestartLimitError(WorkerError):
    """Children ended too often in too short a time, so the supervisor stopped all of them."""

    code = "restart_limit"
    is_retryable = False


class PoolRestingError(WorkerError):
    """The workers of a pool failed too often; they start again after `retry_after` seconds."""

    code = "pool_resting"


class NotJsonError(WorkerError):
    """A value sent to or from a worker is not a JSON value."""

    code = "not_json"
    is_retryable = False


class StaleCodeError(ExecutionError):
    """The worker has loaded code of a program that has changed; a new worker loads the new code."""

    code = "stale"


class BudgetError(ExecutionError):
    """The next call would pass a limit on money, tokens, calls or time."""

    code = "budget"


class DeadlineError(BudgetError):
    """The deadline of the call passed before its answer came."""

    code = "deadline"


class RepetitionError(ExecutionError):
    """A call was repeated although nothing had changed since the last one, so it cannot help."""

    code = "repetition"


class CheckError(ExecutionError):
    """An `Assert`, a check or the `verify` of a team still does not hold after another try."""

    code = "check"


class MediaError(ExecutionError):
    """The prompt cannot carry a picture, a recording or a file; nothing was sent."""

    code = "media"


class UnavailableError(ExecutionError):
    """This process takes no new work because it is being stopped; another one does."""

    code = "unavailable"
    is_retryable = True


class QuestionExpiredError(ExecutionError):
    """Nobody answered a question of the program before it expired."""

    code = "question_expired"


class WaitingForAnswerError(DspexError):
    """The program asks a person, and nobody can answer here; `question` is what it asks.

    It is not an `ExecutionError`, so no retry repeats the question.
    """

    code = "waiting_for_answer"
    question: Any = None


class DivergenceError(WaitingForAnswerError):
    """The program asks something else in each of its runs, so no answer is ever used."""

    code = "divergence"


class ActionError(DspexError):
    """An action on a resource is refused; the subclasses are what the APIs show."""

    code = "action"


class InvalidError(ActionError):
    """Values do not fit; `fields` lists each of them with its path."""

    code = "invalid"


class NotFoundError(ActionError):
    """There is no such thing, or not for this caller."""

    code = "not_found"


class ConflictError(ActionError):
    """The thing exists already, or is in a state that does not allow this."""

    code = "conflict"


class NotBetterError(ConflictError):
    """A trial is not significantly better than the program on rows that its search did not see."""

    code = "not_better"


class ForbiddenError(ActionError):
    """The caller may not do this."""

    code = "forbidden"


class QuotaError(ActionError):
    """The workspace has stored as much as it may; `limit` in the context names the limit."""

    code = "quota_exceeded"


class StorageError(DspexError):
    """The database could not be read or written."""

    code = "storage"
    is_retryable = True


class SchemaError(StorageError):
    """The tables of the database have another schema; the message has the fix."""

    code = "schema"
    is_retryable = False


class InternalError(DspexError):
    """A fault in dspex itself; please report it."""

    code = "internal"


@contextmanager
def boundary(kind: type[DspexError], what: str) -> Iterator[None]:
    """Attribute any foreign exception raised inside to `kind`.

    Cancellation and errors of dspex pass unchanged.
    """
    try:
        yield
    except DspexError:
        raise
    except Exception as error:
        raise kind(f"{what}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """Return class, text and user's line of an exception (of a group, its first)."""
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    text = f"{type(inner).__name__}: {inner}"
    place = place_of(inner if not isinstance(inner, DspexError) else inner.__cause__)
    return text if not place or place in text else f"{text} ({place})"
