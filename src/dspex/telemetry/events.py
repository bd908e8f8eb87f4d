"""Events of a running program besides its spans."""

from typing import Literal

import msgspec

EventName = Literal[
    "fallback", "retry", "progress", "model_loading", "model_ready", "log", "worker"
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `attributes` are JSON-ready and hold no secrets."""

    name: EventName
    message: str
    trace_id: str | None = None
    attributes: dict[str, object] = {}  # msgspec copies an empty default for each instance
