"""The seam between a run and whoever watches it."""

from typing import Protocol

from dspex.language.records import Span
from dspex.telemetry.events import Event


class Observer(Protocol):
    """Hears of every finished span and every event.

    Called on the thread of the run, in order, between two steps of it: an observer returns at once and never raises.
    It may be shared by many runs at a time.
    """

    def on_span(self, span: Span) -> None:
        """Take note of a finished span."""
        ...

    def on_event(self, event: Event) -> None:
        """Take note of an event."""
        ...


class Silent:
    """Listens to nothing."""

    __slots__ = ()

    def on_span(self, span: Span) -> None:
        """Do nothing."""

    def on_event(self, event: Event) -> None:
        """Do nothing."""


class Collecting:
    """Keeps everything it hears, for tests and notebooks."""

    __slots__ = ("events", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.events: list[Event] = []

    def on_span(self, span: Span) -> None:
        """Keep the span."""
        self.spans.append(span)

    def on_event(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)
