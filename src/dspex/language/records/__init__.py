"""The data that all rooms share: messages, examples, predictions, usage and traces."""

from dspex.language.records.example import Example
from dspex.language.records.message import Message, Role, ToolCall
from dspex.language.records.passage import Passage
from dspex.language.records.prediction import AdapterFallback, Prediction
from dspex.language.records.trace import Span, SpanKind, SpanStatus, Trace
from dspex.language.records.usage import Usage

__all__ = [
    "AdapterFallback",
    "Example",
    "Message",
    "Passage",
    "Prediction",
    "Role",
    "Span",
    "SpanKind",
    "SpanStatus",
    "ToolCall",
    "Trace",
    "Usage",
]
