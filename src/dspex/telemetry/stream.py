"""The events that `Module.stream` yields while a program runs."""

import msgspec

from dspex.language.records import Prediction


class Status(msgspec.Struct, frozen=True, gc=False):
    """The module at `path` started ("begun"), calls its model again ("again") or ended ("done").

    `name` is its class, or the name of the tool that an agent at `path` calls.
    """

    path: str
    name: str
    state: str


class FieldDelta(msgspec.Struct, frozen=True, gc=False):
    """More text of one output field. All deltas of a field together are its text in the reply.

    `attempt` counts the replies of one call: a second one (a repair, a fallback) begins each field
    anew.
    """

    path: str
    field: str
    text: str
    attempt: int = 1


class Partial(msgspec.Struct, frozen=True):
    """The outputs of the module at `path` so far, incomplete and not validated."""

    path: str
    outputs: dict[str, object]
    attempt: int = 1


class Finished(msgspec.Struct, frozen=True):
    """The end: the whole, validated prediction."""

    prediction: Prediction


StreamEvent = Status | FieldDelta | Partial | Finished
