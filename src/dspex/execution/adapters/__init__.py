"""Render signatures and inputs as messages; parse replies into outputs. Pure: no I/O, no clock."""

from dspex.execution.adapters.adapter import Adapter, Prompt
from dspex.execution.adapters.chat import ChatAdapter
from dspex.execution.adapters.field_splitter import FieldSplitter, StreamingAdapter
from dspex.execution.adapters.json import JSONAdapter
from dspex.execution.adapters.reply_events import EmitEvent, ReplyEvents
from dspex.execution.adapters.rows import read_row
from dspex.execution.adapters.tools import ANSWER, ToolAdapter
from dspex.execution.adapters.xml import XMLAdapter

__all__ = [
    "ANSWER",
    "Adapter",
    "ChatAdapter",
    "EmitEvent",
    "FieldSplitter",
    "JSONAdapter",
    "Prompt",
    "ReplyEvents",
    "StreamingAdapter",
    "ToolAdapter",
    "XMLAdapter",
    "read_row",
]
