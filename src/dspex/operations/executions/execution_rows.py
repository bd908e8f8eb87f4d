"""The rows of executions: read again, ended, and charged to the quota."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError, StorageError
from dspex.operations.executions.execution_recorder import LONG, ExecutionRecorder
from dspex.operations.executions.question_rows import QuestionRows
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.operations.framework.json_size import sizes_of
from dspex.operations.framework.store import Change, Insert, Store
from dspex.operations.tenancy.quotas import Quotas

T = TypeVar("T")
_RETRY_DELAYS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
_long_of: Callable[[Any], tuple[Any, ...]] = attrgetter(*LONG)


class ExecutionRows:
    """The rows of the executions of one process."""

    def __init__(
        self,
        store: Store,
        recorder: ExecutionRecorder,
        *,
        clock: Clock,
        quotas: Quotas | None,
        questions: QuestionRows,
    ) -> None:
        """Take the collaborators; without `quotas` nothing is counted."""
        self.questions = questions
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._quotas = quotas

    def charge(self, workspace: str, changes: Sequence[Change]) -> None:
        """Charge the quota with what was stored of an execution, and with the execution if new."""
        if self._quotas is None:
            return
        change = changes[0]
        if isinstance(change, Insert):
            self._quotas.charge(workspace, executions=1, size=sizes_of(_long_of(change.entity)))
        else:
            self._quotas.charge(workspace, size=sizes_of(map(change.values.get, LONG)))

    async def reload(self, record: ExecutionRecord) -> ExecutionRecord:
        """Return the current record of an execution.

        Raises:
            NotFoundError: the execution was deleted.
        """
        current = await self._store.get(EXECUTION, id=record.id)
        if current is None:
            raise NotFoundError(f"there is no execution {str(record.id)!r}")
        return current

    async def close(
        self, record: ExecutionRecord, values: Mapping[str, Any], *more: Change
    ) -> ExecutionRecord:
        """Record the end, whose columns follow from `values`, with `more`; return the record.

        Retries if the database is unavailable. An end recorded by another writer wins.
        """
        columns = self._recorder.end_columns(record, **values)
        changes = self._recorder.end_changes(record, columns)
        try:
            await self._patiently(lambda: self._store.write(*changes, *more))
        except ConflictError:
            return await self.reload(record)
        self.charge(record.workspace, changes)
        return replace(record, **columns)

    async def suspend(
        self, record: ExecutionRecord, values: Mapping[str, Any], *, questions: Sequence[UUID]
    ) -> bool:
        """Record that an execution waits; see `QuestionRows.suspend`.

        Retries if the database is unavailable.
        """
        return await self._patiently(
            lambda: self.questions.suspend(record, values, questions=questions)
        )

    async def _patiently(self, write: Callable[[], Awaitable[T]]) -> T:
        for pause in _RETRY_DELAYS:
            with suppress(StorageError):
                return await write()
            await self._clock.sleep(pause)
        return await write()
