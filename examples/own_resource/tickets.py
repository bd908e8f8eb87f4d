"""A resource of one's own: a table, GraphQL, REST, an audit trail and the command line follow from this file.

DSPEX_DOMAIN=tickets:DOMAIN dspex serve        (in this folder)
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from dspex.errors import NotFoundError
from dspex.operations.resources import DOMAIN as BUILT_IN
from dspex.operations.resources import Action, Insert, Operations, Resource, Update
from dspex.operations.resources.resource import Row, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket(Row):
    """A question of a customer, and the execution that answered it."""

    title: str
    status: Literal["open", "answered", "closed"] = "open"
    execution_id: UUID | None = None


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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTicket:
    """Open a ticket."""

    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTicket:
    """Close a ticket, by its id."""

    id: UUID


async def open_ticket(operations: Operations, given: OpenTicket) -> Ticket:
    now = operations.floor.clock.now()
    key = operations.floor.new_id()
    made = Ticket(id=key, workspace=operations.workspace, created_at=now, updated_at=now, title=given.title)
    await operations.store.write(Insert(made))
    return made


async def close_ticket(operations: Operations, given: CloseTicket) -> Ticket:
    found = await operations.store.get(TICKET, id=given.id, workspace=operations.workspace)
    if found is None:
        raise NotFoundError(f"there is no ticket {str(given.id)!r}")
    values = {"status": TICKET.step("close", found.status), "updated_at": operations.floor.clock.now()}
    await operations.store.write(Update(resource=TICKET, id=found.id, values=values, statuses=(found.status,)))
    return dataclasses.replace(found, **values)


ACTIONS = (
    Action(name="open_ticket", resource=TICKET, input=OpenTicket, scope="write", run=open_ticket, description="Open."),
    Action(
        name="close_ticket", resource=TICKET, input=CloseTicket, scope="write", run=close_ticket, description="Close."
    ),
)
DOMAIN = BUILT_IN.extended(TICKET, actions=ACTIONS)
