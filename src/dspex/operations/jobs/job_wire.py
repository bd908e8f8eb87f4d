"""What a worker and the processes of its jobs say to each other: lines of JSON over a socket."""

from typing import Literal
from uuid import UUID

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """From the worker. `run` names a job, its turn, and the worker that takes it.

    `stop` ends what runs, which others have moved on; `leave` queues it again for others.
    """

    do: Literal["run", "stop", "leave"]
    queue: str = ""
    job: UUID | None = None
    turn: int = 0
    worker: str = ""


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """From the process, a few times a second: its loop turns.

    `has_taken`: the row of its job is taken. `has_progress`: something was written to the journal
    of the job. `outcome`: what became of the job, which has ended here; "unread" where its row
    could not be taken.
    """

    has_taken: bool = False
    has_progress: bool = msgspec.field(default=False, name="got_on")  # as older workers read it
    outcome: str | None = None


def encode(message: Order | Sign) -> bytes:
    """Return the line of a message."""
    return msgspec.json.encode(message) + b"\n"


def decode_order(line: bytes) -> Order:
    """Return the order in a line."""
    return msgspec.json.decode(line, type=Order)


def decode_sign(line: bytes) -> Sign:
    """Return the sign in a line."""
    return msgspec.json.decode(line, type=Sign)
