"""Deletes old executions."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import NotFoundError
from dspex.operations.events.records import EVENT
from dspex.operations.executions.execution_recorder import LONG, TOPIC
from dspex.operations.executions.records import (
    ENDED,
    EXECUTION,
    EXECUTION_ENTRY,
    PROCESS,
    QUESTION,
)
from dspex.operations.executions.session_records import SESSION, SESSION_TURN
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Figures, Match, Query, Store, each_row
from dspex.operations.programs.records import PROGRAM, ProgramRecord
from dspex.operations.tenancy.quotas import usage_change
from dspex.operations.tenancy.records import WORKSPACE, WorkspaceRecord

_PAGE = 200
_ACTIVE = ("queued", "running", "paused")
_PROCESS_DAYS = 7
_NEWEST = UUID(int=2**128 - 1)


class Retention:
    """Deletes executions by age or by count per program, with their events.

    `keep_days` and `keep_count` of a program take precedence over those of its workspace, and these
    over the settings; 0 keeps everything. It never deletes running executions, rows that another
    resource refers to, or executions of a program with an unfinished job. The audit trail stays.
    """

    def __init__(
        self,
        store: Store,
        figures: Callable[[], Figures],
        *,
        jobs: Iterable[Resource[Any]],
        parts: Iterable[Resource[Any]] = (),
        clock: Clock,
        days: int = 0,
        count: int = 0,
    ) -> None:
        """Take the collaborators, the kinds of jobs, and the default limits.

        `parts` are resources whose rows are deleted after the execution that they are about.
        """
        self._parts = [*parts]
        self._jobs = [job for job in jobs if "program_id" in job.references]
        self._store = store
        self._figures = figures
        self._clock = clock
        self._days = days
        self._count = count

    async def tick(self) -> int:
        """Delete expired executions in all workspaces; return how many."""
        query = Query(limit=_PAGE, oldest_first=True)
        workspaces = {row.name: row async for row in each_row(self._store, WORKSPACE, query)}
        total = 0
        async for program in each_row(self._store, PROGRAM, query):
            total += await self._prune(program, workspaces.get(program.workspace))
        for resource in (QUESTION, EXECUTION_ENTRY):  # of executions that are gone
            await self._figures().prune(
                resource, {"execution_id": None}, before=self._id_at(0), keep=None
            )
        await self._delete_expired_sessions()
        await self._figures().prune(PROCESS, {}, before=self._id_at(_PROCESS_DAYS), keep=None)
        return total

    async def _delete_expired_sessions(self) -> None:
        where = {"expires_at": Match((("before", self._clock.now()),))}
        for session in await self._store.select(SESSION, Query(where=where, limit=_PAGE)):
            turns = {"session_id": session.id}
            await self._figures().prune(SESSION_TURN, turns, before=_NEWEST, keep=None)
            await self._figures().prune(SESSION, {"id": session.id}, before=_NEWEST, keep=None)

    def _limits(self, program: ProgramRecord, workspace: WorkspaceRecord | None) -> tuple[int, int]:
        days, count = self._days, self._count
        if workspace is not None:
            days = days if workspace.keep_days is None else workspace.keep_days
            count = count if workspace.keep_count is None else workspace.keep_count
        settings = program.configuration
        return int(settings.get("keep_days", days)), int(settings.get("keep_count", count))

    async def _prune(self, program: ProgramRecord, workspace: WorkspaceRecord | None) -> int:
        days, count = self._limits(program, workspace)
        if not (days or count) or await self._has_active_job(program):
            return 0
        where: dict[str, Any] = {"program_id": program.id, "status": ENDED}
        before = self._id_at(days) if days else None
        deleted, size = await self._figures().prune(
            EXECUTION, where, before=before, keep=count or None, sized=LONG
        )
        size += sum([await self._prune_part(part, program) for part in self._parts])
        rows = await self._store.select(
            EXECUTION, Query(where={"program_id": program.id}, limit=1, oldest_first=True)
        )
        if deleted or size:
            with suppress(NotFoundError):  # the workspace does not have counters yet
                await self._store.write(
                    usage_change(program.workspace, executions=-deleted, size=-size)
                )
            event_where = {"program_id": program.id, "topic": TOPIC}
            oldest = rows[0].id if rows else self._id_at(0)
            await self._figures().prune(EVENT, event_where, before=oldest, keep=None)
        return deleted

    async def _prune_part(self, part: Resource[Any], program: ProgramRecord) -> int:
        """Delete the rows that were about deleted executions of a program; return their bytes."""
        documents = [each for each in part.attributes if ATTRIBUTE_KINDS[each.kind].is_document]
        where = {"program_id": program.id, "execution_id": None}
        sized = tuple(each.name for each in documents)
        pruned = await self._figures().prune(
            part, where, before=self._id_at(0), keep=None, sized=sized
        )
        return pruned.size

    async def _has_active_job(self, program: ProgramRecord) -> bool:
        where = {"program_id": program.id, "status": _ACTIVE}
        return any([await self._store.count(job, where) for job in self._jobs])

    def _id_at(self, days: int) -> UUID:
        """Return the smallest id of the moment `days` ago; ids start with a timestamp."""
        moment = self._clock.now().timestamp() - days * 86_400.0
        return UUID(int=int(max(0.0, moment) * 1000) << 80)
