"""The rows of one execution: the execution, its events and its audit entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from dspex.clock import Clock
from dspex.error_text import shorten
from dspex.errors import DspexError
from dspex.language.records import Prediction, Span, Trace
from dspex.language.records.canonical import content_hash
from dspex.language.records.media_types import shorten_data_uris
from dspex.language.signatures.codec import plain
from dspex.operations.events.records import EventRecord
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.operations.executions.redaction import PayloadPolicy
from dspex.operations.framework.audit import AuditEntry
from dspex.operations.framework.store import Change, Insert, Update
from dspex.operations.programs.records import PROGRAM, ProgramRecord

TOPIC = "execution"
LONG = ("inputs", "outputs", "error", "trace")
"""The attributes of an execution that may be large and count against the quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteOptions:
    """The options of one execution and its caller. `timeout` is in seconds.

    `model` replaces the model of the context. An execution that `may_wait` does so when its program
    asks a person. In a session, it gets the conversation and adds a turn.
    """

    actor: str = "local"
    action: str = "execute_program"
    backend: str | None = None
    model: str | None = None
    idempotency_key: str | None = None
    timeout: float | None = None
    retry_of: UUID | None = None
    may_wait: bool = True
    session_id: UUID | None = None


class ExecutionRecorder:
    """Builds the rows. `owner` is the process that runs the executions."""

    def __init__(
        self,
        *,
        clock: Clock,
        new_id: Callable[[], UUID],
        owner: str,
        payload_policy: PayloadPolicy,
    ) -> None:
        """Take the collaborators."""
        self.owner = owner
        self._clock = clock
        self._new_id = new_id
        self._payload_policy = payload_policy

    def new_record(
        self,
        program: ProgramRecord,
        inputs: dict[str, Any],
        options: ExecuteOptions,
        *,
        may_hold_media: bool,
        **values: Any,
    ) -> ExecutionRecord:
        """Return a new running execution; its inputs are not redacted yet, but have no media."""
        now, payloads = self._clock.now(), self._payload_policy.payloads(program)
        stored_inputs = without_media(inputs) if may_hold_media else inputs
        if stored_inputs is not inputs and payloads == "stored":
            payloads = "redacted"  # what is stored cannot be executed again
        return ExecutionRecord(
            id=self._new_id(),
            workspace=program.workspace,
            created_at=now,
            updated_at=now,
            program_id=program.id,
            program_version_id=program.current_version_id or self._new_id(),
            status="running",
            inputs=stored_inputs,
            started_at=now,
            retry_of=options.retry_of,
            session_id=options.session_id,
            idempotency_key=options.idempotency_key,
            actor=options.actor,
            owner=self.owner,
            deadline_at=None
            if options.timeout is None
            else now + timedelta(seconds=options.timeout),
            payloads=payloads,
            **values,
        )

    def start_changes(
        self, program: ProgramRecord, record: ExecutionRecord, *, action: str
    ) -> tuple[Change, ...]:
        """Return the changes that record the start; they require that the program is ready."""
        counter_update = Update(
            resource=PROGRAM,
            id=program.id,
            values={"last_executed_at": record.started_at},
            increments={"execution_count": 1},
            statuses=PROGRAM.transitions["execute"].sources,
        )
        return (
            Insert(self._prepare(record)),
            counter_update,
            self.event(record),
            self.audit_entry(record, action, program=program.name),
        )

    def key_release(self, record: ExecutionRecord) -> Update:
        """Return the change that removes the key of an interrupted execution.

        Only one call succeeds.
        """
        return Update(
            resource=EXECUTION,
            id=record.id,
            values={"idempotency_key": None},
            statuses=("interrupted",),
            expected={"idempotency_key": record.idempotency_key},
        )

    def end_changes(self, record: ExecutionRecord, values: Mapping[str, Any]) -> tuple[Change, ...]:
        """Return the changes that record the end; they require that the execution is running."""
        columns = self.stored_columns(record, values)
        change = Update(resource=EXECUTION, id=record.id, values=columns, statuses=("running",))
        return change, self.event(record, values)

    def stored_columns(
        self, record: ExecutionRecord, values: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return columns as they are stored: redacted if the program demands it."""
        if record.payloads == "stored":
            return values
        return self._payload_policy.prepare(record.payloads, values)

    def redacted(self, record: ExecutionRecord, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of a question as they are stored; the answer has to be exact."""
        stored: dict[str, Any] = self.stored_columns(record, {"inputs": inputs})["inputs"]
        return stored

    def redacted_outputs(self, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return outputs that people write as the redaction of this process stores them."""
        stored: Mapping[str, Any] = self._payload_policy.prepare("stored", {"outputs": outputs})
        return dict(stored["outputs"])

    def waiting_problem(self, record: ExecutionRecord, inputs: Mapping[str, Any]) -> str:
        """Return why an execution with these inputs cannot wait for people, or an empty text."""
        if record.payloads == "withheld":
            return "its inputs are not stored (`store_inputs`)"
        if self.redacted(record, record.inputs) != inputs:
            return "its inputs are not stored as they are (they hold media, or are redacted)"
        return ""

    def keeps(self, record: ExecutionRecord, value: Any) -> bool:
        """Return whether a result, or an answer, of an execution is stored as it is."""
        return record.payloads == "stored" or self._payload_policy.keeps(value)

    def stop_changes(
        self, record: ExecutionRecord, status: str, *, actor: str | None
    ) -> tuple[Change, ...]:
        """Return the changes that end a running or waiting execution.

        It ends as cancelled by `actor`, or as interrupted.
        """
        values = self.end_columns(
            record,
            status=EXECUTION.step(
                "cancel" if status == "cancelled" else "interrupt", record.status
            ),
        )
        if status == "interrupted":
            values["error"] = INTERRUPTED
        statuses = EXECUTION.transitions["cancel" if status == "cancelled" else "interrupt"].sources
        change = Update(resource=EXECUTION, id=record.id, values=values, statuses=statuses)
        changes: tuple[Change, ...] = (change, self.event(record, values))
        return (
            changes
            if actor is None
            else (*changes, self.audit_entry(record, "cancel_execution", actor=actor))
        )

    def end_columns(self, record: ExecutionRecord, **values: Any) -> dict[str, Any]:
        """Return the columns of an execution that ends now."""
        now = self._clock.now()
        return {
            "updated_at": now,
            "finished_at": now,
            "duration_ms": _milliseconds(record, now),
            **values,
        }

    def _prepare(self, record: ExecutionRecord) -> ExecutionRecord:
        if record.payloads == "stored":
            return record
        return replace(
            record,
            **self._payload_policy.prepare(
                record.payloads, {"inputs": record.inputs, "error": record.error}
            ),
        )

    def event(self, record: ExecutionRecord, values: Mapping[str, Any] | None = None) -> Insert:
        """Return the event of an execution in a new state, by default that of the record."""
        now = self._clock.now()
        outcome = values or {
            "status": record.status,
            "error": record.error,
            "duration_ms": record.duration_ms,
        }
        payload = {"status": outcome["status"]}
        if outcome.get("duration_ms") is not None:
            payload["duration_ms"] = outcome["duration_ms"]
        if outcome.get("error"):
            payload["code"] = outcome["error"]["code"]
        return Insert(
            EventRecord(
                id=self._new_id(),
                workspace=record.workspace,
                created_at=now,
                updated_at=now,
                topic=TOPIC,
                subject_id=record.id,
                program_id=record.program_id,
                payload=payload,
            )
        )

    def audit_entry(
        self, record: ExecutionRecord, action: str, *, actor: str | None = None, program: str = ""
    ) -> Insert:
        """Return the entry of an action on an execution, by its own actor unless one is given."""
        now = record.updated_at if actor is None else self._clock.now()
        return Insert(
            AuditEntry(
                id=self._new_id(),
                workspace=record.workspace,
                created_at=now,
                updated_at=now,
                actor=record.actor if actor is None else actor,
                action=action,
                resource=EXECUTION.name,
                resource_id=record.id,
                after={"program": program} if program else None,
            )
        )


INTERRUPTED = DspexError("the process that ran this execution is gone; retry it").to_dict() | {
    "code": "interrupted",
    "retryable": True,
}


def trace_of(prediction: Prediction | None, spans: list[Span]) -> dict[str, Any] | None:
    """Return the trace as JSON: from the prediction, or from the spans before the failure."""
    trace = Trace(spans[0].trace_id, tuple(spans)) if prediction is None and spans else None
    if prediction is not None:
        trace = prediction.trace
    if trace is None:
        return None
    return {
        "trace_id": trace.trace_id,
        "spans": [msgspec.to_builtins(span) for span in trace.spans],
    }


def without_media(value: Any) -> Any:
    """Return JSON data with each data URI shortened; the same object if there is none."""
    if isinstance(value, str):
        return shorten_data_uris(value) if value.startswith("data:") else value
    if isinstance(value, Mapping):
        members = {key: without_media(item) for key, item in value.items()}
        return value if all(members[key] is value[key] for key in value) else members
    if isinstance(value, list):
        items = [without_media(item) for item in value]
        pairs = zip(items, value, strict=True)
        return value if all(item is before for item, before in pairs) else items
    return value


def hash_of(program: ProgramRecord, inputs: Mapping[str, Any]) -> str:
    """Return a hash to compare the inputs of two calls with the same idempotency key."""
    return content_hash({"program": str(program.id), "inputs": json_ready(inputs)})


def json_ready(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return unvalidated inputs as JSON; values that are not JSON become short texts."""
    try:
        data: dict[str, Any] = plain(dict(inputs))
    except (ValueError, TypeError, RecursionError):
        return {str(name): shorten(value) for name, value in inputs.items()}
    return data


def _milliseconds(record: ExecutionRecord, now: datetime) -> float:
    if record.status in {"waiting", "pending"}:
        return record.duration_ms or 0.0
    return (now - (record.started_at or now)).total_seconds() * 1e3
