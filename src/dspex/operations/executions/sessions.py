"""Stored conversations: the history that an execution in a session gets, and the turn it adds."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, InvalidError, NotFoundError
from dspex.execution.adapters.turns import is_history
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain
from dspex.language.signatures.conversation import history_of
from dspex.operations.executions.execution_recorder import ExecutionRecorder
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.executions.session_records import (
    SESSION,
    SESSION_TURN,
    SessionRecord,
    SessionTurnRecord,
)
from dspex.operations.framework.store import Change, Insert, Query, Store, Update

MAX_TURNS = 200


class Sessions:
    """The sessions of one database."""

    def __init__(
        self,
        store: Store,
        recorder: ExecutionRecorder,
        *,
        clock: Clock,
        new_id: Callable[[], UUID],
    ) -> None:
        """Take the collaborators."""
        self._new_id = new_id
        self._store = store
        self._recorder = recorder
        self._clock = clock

    async def with_history(
        self, inputs: Mapping[str, Any], signature: Signature, *, workspace: str, key: UUID
    ) -> dict[str, Any]:
        """Return the inputs with the conversation of a session in the input that takes it.

        Raises:
            NotFoundError: the session does not exist in this workspace.
            ConflictError: it has expired.
            InvalidError: the signature has no input of the type History, or `inputs` contain it.
        """
        session = await self._store.get(SESSION, workspace=workspace, id=key)
        if session is None:
            raise NotFoundError(f"there is no session {str(key)!r}")
        check_alive(session, self._clock.now())
        name = history_input(signature)
        if name is None or name in inputs:
            problem = "has no input of the type History" if name is None else f"gets {name!r} twice"
            raise InvalidError(f"the session cannot be used: {signature.name} {problem}")
        turns = [(turn.inputs, turn.outputs) for turn in await self.turns(session)]
        return {**inputs, name: plain(history_of(turns, session.summary))}

    async def turns(self, session: SessionRecord) -> list[SessionTurnRecord]:
        """Return the newest turns of a session, oldest first: at most 200."""
        query = Query(where={"session_id": session.id}, limit=MAX_TURNS)
        return [*await self._store.select(SESSION_TURN, query)][::-1]

    async def changes(
        self, record: ExecutionRecord, outputs: Mapping[str, Any], signature: Signature
    ) -> tuple[Change, ...]:
        """Return the changes that add the turn of a completed execution to its session.

        Empty if it is not in a session, or its session was deleted or has expired.
        """
        session = None
        if record.session_id is not None:
            session = await self._store.get(SESSION, id=record.session_id)
        now = self._clock.now()
        if session is None or (session.expires_at is not None and session.expires_at <= now):
            return ()
        name = history_input(signature)
        inputs = {key: value for key, value in record.inputs.items() if key != name}
        columns = self._recorder.stored_columns(record, {"inputs": inputs, "outputs": outputs})
        return turn_changes(
            session,
            columns["inputs"],
            columns["outputs"],
            id=self._new_id(),
            now=now,
            execution_id=record.id,
        )


def turn_changes(
    session: SessionRecord,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    *,
    id: UUID,
    now: datetime,
    execution_id: UUID | None = None,
) -> tuple[Change, ...]:
    """Return the changes that add a turn to a session; its time to live begins again."""
    turn = SessionTurnRecord(
        id=id,
        workspace=session.workspace,
        created_at=now,
        updated_at=now,
        session_id=session.id,
        execution_id=execution_id,
        inputs=dict(inputs),
        outputs=dict(outputs),
    )
    values = {"updated_at": now, "expires_at": expiry(session.ttl, now)}
    update = Update(resource=SESSION, id=session.id, values=values, increments={"turn_count": 1})
    return Insert(turn), update


def expiry(ttl: float | None, now: datetime) -> datetime | None:
    """Return when a session whose last turn is `now` expires."""
    return None if ttl is None else now + timedelta(seconds=ttl)


def check_alive(session: SessionRecord, now: datetime) -> None:
    """Raise if a session has expired.

    Raises:
        ConflictError: it has.
    """
    if session.expires_at is not None and session.expires_at <= now:
        raise ConflictError(
            f"the session {str(session.id)!r} expired at {session.expires_at:%Y-%m-%d %H:%M:%S} "
            "UTC: create a new one"
        )


def history_input(signature: Signature) -> str | None:
    """Return the first input of the type History, None without one."""
    inputs = signature.input_fields.items()
    return next((name for name, field in inputs if is_history(field)), None)
