"""The rows of executions that wait for people: questions, entries, and the states between."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError, StorageError
from dspex.execution.question import EffectKind, Question
from dspex.operations.executions.execution_recorder import ExecutionRecorder
from dspex.operations.executions.records import (
    ENDED,
    EXECUTION,
    EXECUTION_ENTRY,
    QUESTION,
    ExecutionEntryRecord,
    ExecutionRecord,
    QuestionRecord,
)
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.store import (
    Change,
    Figures,
    Insert,
    Match,
    Query,
    Store,
    Update,
    each_row,
)

MAX_RESTARTS = 5
_PAGE = 200
_TRIES = 5
_NEWEST = UUID(int=2**128 - 1)


class QuestionRows:
    """Reads and writes what a waiting execution needs. Every change of state is one transaction."""

    def __init__(
        self,
        store: Store,
        recorder: ExecutionRecorder,
        *,
        clock: Clock,
        new_id: Callable[[], UUID],
        figures: Callable[[], Figures] | None,
    ) -> None:
        """Take the collaborators; without `figures`, entries stay until retention deletes them."""
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._new_id = new_id
        self._figures = figures

    async def entries(self, execution_id: UUID) -> list[ExecutionEntryRecord]:
        """Return the results that an execution has so far, oldest first."""
        query = Query(where={"execution_id": execution_id}, limit=_PAGE, oldest_first=True)
        return [row async for row in each_row(self._store, EXECUTION_ENTRY, query)]

    async def questions(self, execution_id: UUID, **where: Any) -> list[QuestionRecord]:
        """Return the questions of an execution, oldest first."""
        where["execution_id"] = execution_id
        query = Query(where=where, limit=_PAGE, oldest_first=True)
        return [row async for row in each_row(self._store, QUESTION, query)]

    def new_question(
        self, record: ExecutionRecord, question: Question, *, key: str, inputs: dict[str, Any]
    ) -> QuestionRecord:
        """Return the row of an open question; its inputs are redacted as the program demands."""
        now = self._clock.now()
        expires_at = None if question.ttl is None else now + timedelta(seconds=question.ttl)
        return QuestionRecord(
            id=self._new_id(),
            workspace=record.workspace,
            created_at=now,
            updated_at=now,
            execution_id=record.id,
            program_id=record.program_id,
            status="open",
            kind=question.kind,
            inputs=self._recorder.redacted(record, inputs),
            signature=question.signature.to_dict(),
            expires_at=expires_at,
            key=key,
        )

    def new_entry(
        self, record: ExecutionRecord, kind: EffectKind, key: str, *, value: Any
    ) -> ExecutionEntryRecord:
        """Return the row of a result."""
        now = self._clock.now()
        return ExecutionEntryRecord(
            id=self._new_id(),
            workspace=record.workspace,
            created_at=now,
            updated_at=now,
            execution_id=record.id,
            program_id=record.program_id,
            kind=kind,
            key=key,
            value={"result": value},
        )

    async def add(
        self,
        record: ExecutionRecord,
        *,
        entries: Sequence[ExecutionEntryRecord],
        question: QuestionRecord | None = None,
    ) -> None:
        """Store results, and a question, of an execution that runs in this process.

        Raises:
            ConflictError: it does not run here any more.
        """
        rows = [*entries, *([] if question is None else [question])]
        await self._store.write(
            Update(
                resource=EXECUTION,
                id=record.id,
                increments={"question_count": int(question is not None)},
                statuses=("running",),
                expected={"owner": self._recorder.owner},
            ),
            *map(Insert, rows),
        )

    async def suspend(
        self, record: ExecutionRecord, values: Mapping[str, Any], *, questions: Sequence[UUID]
    ) -> bool:
        """Record that an execution waits for the answers to `questions`, or may go on.

        Returns whether it may go on, because a question is not open any more.
        """
        now = self._clock.now()
        waits = {
            **self._recorder.stored_columns(record, values),
            "status": "waiting",
            "waiting_since": now,
            "updated_at": now,
            "duration_ms": self._recorder.end_columns(record)["duration_ms"],
        }
        are_open = [
            Update(resource=QUESTION, id=key, values={"updated_at": now}, statuses=("open",))
            for key in questions
        ]
        with suppress(ConflictError):
            await self._store.write(*self._changes(record, waits, "running"), *are_open)
            return False
        with suppress(ConflictError):  # or it has ended, or runs elsewhere
            await self._store.write(
                *self._changes(record, {**waits, "status": "pending"}, "running")
            )
            return True
        return False

    async def put_back(self, record: ExecutionRecord, *, has_crashed: bool) -> None:
        """Record that any process may continue an execution that ran in another one, or here.

        Raises:
            ConflictError: it does not run any more.
        """
        now = self._clock.now()
        duration = record.duration_ms if has_crashed else None
        values = {
            "status": EXECUTION.step("resume", record.status),
            "waiting_since": now,
            "updated_at": now,
            "duration_ms": duration or self._recorder.end_columns(record)["duration_ms"],
        }
        change, event = self._changes(record, values, "running", owner=record.owner)
        increments = {"restarts": int(has_crashed)}
        await self._store.write(replace(change, increments=increments), event)

    def _changes(
        self,
        record: ExecutionRecord,
        values: Mapping[str, Any],
        *statuses: str,
        owner: str | None = None,
    ) -> tuple[Update, Insert]:
        change = Update(
            resource=EXECUTION,
            id=record.id,
            values=values,
            statuses=statuses,
            expected={"owner": owner or self._recorder.owner},
        )
        return change, self._recorder.event(record, values)

    async def claim(self, record: ExecutionRecord) -> ExecutionRecord | None:
        """Take an execution that is ready to go on; return its record, or None if another has it.

        In the record, `started_at` and `deadline_at` exclude the time that it has waited.
        """
        now = self._clock.now()
        waited = now - (record.waiting_since or now)
        deadline = None if record.deadline_at is None else record.deadline_at + waited
        values: dict[str, Any] = {
            "status": "running",
            "owner": self._recorder.owner,
            "waiting_since": None,
            "deadline_at": deadline,
            "updated_at": now,
        }
        change = Update(resource=EXECUTION, id=record.id, values=values, statuses=("pending",))
        try:
            await self._store.write(change, self._recorder.event(record, values))
        except (ConflictError, NotFoundError):
            return None
        started = now - timedelta(milliseconds=record.duration_ms or 0.0)
        return replace(record, **values, started_at=started)

    async def answer(self, question: QuestionRecord, answer: dict[str, Any], *, actor: str) -> None:
        """Store the answer to an open question, and let its execution go on.

        Raises:
            ConflictError: the question is not open, or its execution has ended.
            InvalidError: the redaction changes the answer.
        """
        now = self._clock.now()
        if not self._recorder.keeps(await self._execution(question), answer):
            raise invalid("answer", answer, "an answer that the redaction of this server keeps")
        if question.expires_at is not None and question.expires_at <= now:
            raise ConflictError(f"the question {str(question.id)!r} expired; nobody answered")
        values = {"answer": answer, "answered_at": now, "answered_by": actor}
        await self._settle(question, "answered", values, actor=actor)

    async def expire(self) -> int:
        """Let the executions go on whose questions expired; return the number of questions."""
        now = self._clock.now()
        where = {"status": "open", "expires_at": Match((("before", now),))}
        rows = await self._store.select(QUESTION, Query(where=where, limit=_PAGE))
        for row in rows:
            with suppress(ConflictError, NotFoundError):
                await self._settle(row, "expired", {}, actor=None)
        return len(rows)

    async def _settle(
        self,
        question: QuestionRecord,
        status: str,
        values: Mapping[str, Any],
        *,
        actor: str | None,
    ) -> None:
        """End an open question together with a change of its execution, whatever state that is in.

        So an execution never begins to wait for a question that is not open.
        """
        now = self._clock.now()
        end = Update(
            resource=QUESTION,
            id=question.id,
            values={"status": status, "updated_at": now, **values},
            statuses=("open",),
        )
        for _ in range(_TRIES):
            record = await self._execution(question)
            goes_on = record.status == "waiting"
            columns = {"updated_at": now, **({"status": "pending"} if goes_on else {})}
            changes: list[Change] = [
                Update(resource=EXECUTION, id=record.id, values=columns, statuses=(record.status,)),
                end,
            ]
            if goes_on:
                changes.append(self._recorder.event(record, columns))
            if actor is not None:
                changes.append(self._recorder.audit_entry(record, "answer_execution", actor=actor))
            with suppress(ConflictError):
                await self._store.write(*changes)
                return
            current = await self._store.get(QUESTION, id=question.id)
            if current is None or current.status != "open":
                break
        raise ConflictError(f"the question {str(question.id)!r} is not open any more")

    async def _execution(self, question: QuestionRecord) -> ExecutionRecord:
        record = await self._store.get(EXECUTION, id=question.execution_id)
        if record is None or record.status in ENDED:
            status = "deleted" if record is None else record.status
            raise ConflictError(f"the execution of this question is {status}")
        return record

    async def close(self, execution_id: UUID) -> None:
        """Cancel the open questions of an execution that has ended, and delete its entries.

        If the database is away, retention does it later.
        """
        now = self._clock.now()
        with suppress(StorageError):
            for question in await self.questions(execution_id, status="open"):
                change = Update(
                    resource=QUESTION,
                    id=question.id,
                    values={"status": "cancelled", "updated_at": now},
                    statuses=("open",),
                )
                with suppress(ConflictError, NotFoundError):
                    await self._store.write(change)
            if self._figures is not None:
                where = {"execution_id": execution_id}
                await self._figures().prune(EXECUTION_ENTRY, where, before=_NEWEST, keep=None)
