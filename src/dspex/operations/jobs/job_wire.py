"""The messages between a worker and the processes of its jobs: lines of JSON over a socket."""

from typing import Literal
from uuid import UUID

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """From the worker. `run` names a job, its turn, and the worker.

    `stop` ends a job that was cancelled, paused or taken over; `leave` queues it again.
    """

    do: Literal["run", "stop", "leave"]
    queue: str = ""
    job: UUID | None = None
    turn: int = 0
    worker: str = ""


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """From the process: a heartbeat, a few times a second.

    `has_taken`: the job has started. `has_progress`: the job has written to its journal. `outcome`:
    how the job ended; "unread" if its row could not be read.
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
