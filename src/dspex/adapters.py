"""Adapters: how a signature becomes a prompt, and a reply its outputs.

`adapter="chat"`, "json", "tools" and "xml" are registered. A class with the methods of `Adapter`
becomes another one by `@register_adapter`.
"""

from dspex.execution.adapters.adapter import Adapter, Prompt
from dspex.execution.adapters.chat import ChatAdapter
from dspex.execution.adapters.field_splitter import FieldSplitter, StreamingAdapter
from dspex.execution.adapters.json import JSONAdapter
from dspex.execution.adapters.registry import register_adapter
from dspex.execution.adapters.tools import ToolAdapter
from dspex.execution.adapters.turns import unreadable_reply, validate_outputs
from dspex.execution.adapters.xml import XMLAdapter

__all__ = [
    "Adapter",
    "ChatAdapter",
    "FieldSplitter",
    "JSONAdapter",
    "Prompt",
    "StreamingAdapter",
    "ToolAdapter",
    "XMLAdapter",
    "register_adapter",
    "unreadable_reply",
    "validate_outputs",
]
