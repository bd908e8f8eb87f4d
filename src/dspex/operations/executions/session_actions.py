"""The actions on sessions."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.operations.executions.session_records import SESSION, SESSION_TURN, SessionRecord
from dspex.operations.executions.sessions import check_alive, expiry, turn_changes
from dspex.operations.framework.action import action
from dspex.operations.framework.audit import AuditEntry
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Figures, Insert, Query, Removals, Update

_LONGEST_SUMMARY = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSession:
    """A new conversation; it expires `ttl` seconds after its last turn, by default never."""

    ttl: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendSession:
    """A turn to add to a session: inputs and outputs by field name."""

    session_id: UUID
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactSession:
    """Leave out all but the newest `keep` turns; `summary` stands for what is left out."""

    session_id: UUID
    keep: int
    summary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOf:
    """A reference to a session."""

    session_id: UUID


@action(SESSION, scope="execute")
async def create_session(operations: Operations, request: CreateSession) -> SessionRecord:
    """Begin a conversation; `execute_program` takes its id and adds a turn to it.

    Raises:
        InvalidError: `ttl` is not positive.
    """
    if request.ttl is not None and not request.ttl > 0:
        raise invalid("ttl", request.ttl, "a number of seconds above 0")
    common = operations.new_row()
    expires_at = expiry(request.ttl, common["created_at"])
    session = SessionRecord(**common, ttl=request.ttl, expires_at=expires_at)
    await operations.store.write(Insert(session))
    return session


@action(SESSION, scope="execute")
async def append_session(operations: Operations, request: AppendSession) -> SessionRecord:
    """Add a turn to a session by hand.

    Raises:
        NotFoundError: the session does not exist.
        ConflictError: it has expired.
    """
    session = await operations.row(SESSION, request.session_id)
    now = operations.clock.now()
    check_alive(session, now)
    await operations.store.write(
        *turn_changes(session, request.inputs, request.outputs, id=operations.new_id(), now=now)
    )
    return await operations.row(SESSION, request.session_id)


@action(SESSION, scope="execute")
async def compact_session(operations: Operations, request: CompactSession) -> SessionRecord:
    """Delete the older turns of a session, and keep a summary of them.

    Raises:
        NotFoundError: the session does not exist.
        InvalidError: `keep` is negative, or the summary is too long.
    """
    session = await operations.row(SESSION, request.session_id)
    if request.keep < 0:
        raise invalid("keep", request.keep, "a whole number from 0")
    if len(request.summary or "") > _LONGEST_SUMMARY:
        raise invalid("summary", request.summary, f"at most {_LONGEST_SUMMARY} characters")
    where = {"session_id": session.id}
    newest = await operations.store.select(SESSION_TURN, Query(where=where, limit=request.keep + 1))
    pruned = 0
    if len(newest) > request.keep:
        before = UUID(int=newest[request.keep].id.int + 1)
        figures = operations.services[Figures]
        pruned = (await figures.prune(SESSION_TURN, where, before=before, keep=None)).rows
    summary = session.summary if request.summary is None else request.summary
    await operations.store.write(
        Update(
            resource=SESSION,
            id=session.id,
            values={"summary": summary, "updated_at": operations.clock.now()},
            increments={"turn_count": -pruned},
        )
    )
    return await operations.row(SESSION, request.session_id)


@action(SESSION, scope="execute")
async def delete_session(operations: Operations, request: SessionOf) -> SessionRecord:
    """Delete a session with its turns.

    Raises:
        NotFoundError: the session does not exist.
    """
    session = await operations.row(SESSION, request.session_id)
    entry = AuditEntry(
        **operations.new_row(),
        actor=operations.actor.name,
        action=operations.action,
        resource=SESSION.name,
        resource_id=session.id,
        before=None,
        after=None,
    )
    await operations.services[Removals].remove(SESSION, session.id, busy=(), entry=entry)
    return session
