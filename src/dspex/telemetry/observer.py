"""The protocol between a run and its observers."""

from typing import Protocol

from dspex.language.records import Span
from dspex.telemetry.events import Event


class Observer(Protocol):
    """Receives every finished span and every event.

    Called in order on the thread of the run, between two of its steps: an observer returns at once
    and never raises. Concurrent runs may share one observer.
    """

    def on_span(self, span: Span) -> None:
        """Receive a finished span."""
        ...

    def on_event(self, event: Event) -> None:
        """Receive an event."""
        ...


class Silent:
    """Ignores everything."""

    __slots__ = ()

    def on_span(self, span: Span) -> None:
        """Do nothing."""

    def on_event(self, event: Event) -> None:
        """Do nothing."""


class Collecting:
    """Collects all spans and events, for tests and notebooks."""

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
