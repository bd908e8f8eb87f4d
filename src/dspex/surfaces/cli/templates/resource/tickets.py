"""Tickets: a table, commands, REST and GraphQL, from one description."""

from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from dspex.operations.domain import DOMAIN as BUILT_IN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.action import action
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.resource import Resource, Row, Transition
from dspex.operations.framework.store import Insert, Update


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket(Row):
    """A customer's message, and the team that the program chose for it."""

    message: str
    team: str
    status: Literal["open", "closed"] = "open"
    execution_id: UUID


TICKET = Resource(
    name="ticket",
    plural="tickets",
    entity=Ticket,
    transitions={"close": Transition(("open",), "closed")},
    references={"execution_id": "execution"},
    indexes=(("status",),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTicket:
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTicket:
    id: UUID


@action(TICKET, scope="execute")
async def open_ticket(operations: Operations, input: OpenTicket) -> Ticket:
    """Open a ticket for the team that the stored program `triage` chooses."""
    request = ExecuteProgram(program="triage", inputs={"message": input.message})
    execution = await execute_program(operations, request)
    team = "unknown" if execution.outputs is None else execution.outputs["team"]
    ticket = Ticket(
        **operations.new_row(), message=input.message, team=team, execution_id=execution.id
    )
    await operations.store.write(Insert(ticket))
    return ticket


@action(TICKET, scope="write")
async def close_ticket(operations: Operations, input: CloseTicket) -> Ticket:
    """Close a ticket, by its id."""
    ticket = await operations.row(TICKET, input.id)
    status = TICKET.step("close", ticket.status)
    values: dict[str, Any] = {"status": status, "updated_at": operations.clock.now()}
    change = Update(resource=TICKET, id=ticket.id, values=values, statuses=(ticket.status,))
    await operations.store.write(change)
    return replace(ticket, **values)


DOMAIN = BUILT_IN.extended(TICKET, actions=(open_ticket, close_ticket))
