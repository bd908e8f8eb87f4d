"""Events and spans of running programs, and the protocol of observers, such as exporters."""

from dspex.telemetry.events import Event, EventName
from dspex.telemetry.observer import Collecting, Observer, Silent
from dspex.telemetry.stream import FieldDelta, Finished, Partial, Status, StreamEvent

__all__ = [
    "Collecting",
    "Event",
    "EventName",
    "FieldDelta",
    "Finished",
    "Observer",
    "Partial",
    "Silent",
    "Status",
    "StreamEvent",
]
