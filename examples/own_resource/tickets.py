"""A custom resource. Serve it in this folder: DSPEX_DOMAIN=tickets:DOMAIN dspex serve"""

from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from dspex.operations.domain import DOMAIN as BUILT_IN
from dspex.operations.framework.action import action
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.policies import OWN_WORKSPACE, AccessPolicy
from dspex.operations.framework.resource import Calculation, Resource, Row, Transition
from dspex.operations.framework.store import Insert, Update


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket(Row):
    """A question of a customer, and the execution that answered it."""

    title: str
    status: Literal["open", "answered", "closed"] = "open"
    opened_by: str
    execution_id: UUID | None = None


def hours_open(row: Ticket) -> float | None:
    """How long it took to close it; none before."""
    hours = (row.updated_at - row.created_at).total_seconds() / 3600
    return hours if row.status == "closed" else None


THEIRS = AccessPolicy(
    name="who opened the ticket, and admins",
    rows=lambda actor: {} if actor.may("admin") else {"opened_by": actor.name},
)
TICKET = Resource(
    name="ticket",
    plural="tickets",
    entity=Ticket,
    transitions={
        "answer": Transition(("open",), "answered"),
        "close": Transition(("open", "answered"), "closed"),
    },
    references={"execution_id": "execution"},
    unique=(("workspace", "title"),),
    indexes=(("status",),),
    calculations=(Calculation(of=("status", "created_at", "updated_at"), compute=hours_open),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTicket:
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTicket:
    id: UUID


@action(TICKET, scope="write", policies=(OWN_WORKSPACE, THEIRS))
async def open_ticket(operations: Operations, input: OpenTicket) -> Ticket:
    """Open a ticket."""
    ticket = Ticket(**operations.new_row(), title=input.title, opened_by=operations.actor.name)
    await operations.store.write(Insert(ticket))
    return ticket


@action(TICKET, scope="write", policies=(OWN_WORKSPACE, THEIRS))
async def close_ticket(operations: Operations, input: CloseTicket) -> Ticket:
    """Close a ticket, by its id."""
    ticket = await operations.row(TICKET, input.id)
    status = TICKET.step("close", ticket.status)
    values: dict[str, Any] = {"status": status, "updated_at": operations.clock.now()}
    change = Update(resource=TICKET, id=ticket.id, values=values, statuses=(ticket.status,))
    await operations.store.write(change)
    return replace(ticket, **values)


DOMAIN = BUILT_IN.extended(TICKET, actions=(open_ticket, close_ticket))
