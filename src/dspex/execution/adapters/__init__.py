"""From a signature and inputs to messages, and from a reply back to outputs. Pure: no I/O, no clock."""

from dspex.execution.adapters.adapter import Adapter, Prompt
from dspex.execution.adapters.chat import ChatAdapter
from dspex.execution.adapters.json import JSONAdapter
from dspex.execution.adapters.rows import read_row
from dspex.execution.adapters.splitting import Splitter, SplittingAdapter
from dspex.execution.adapters.telling import ReplyTelling, Tell
from dspex.execution.adapters.tools import ANSWER, ToolAdapter

__all__ = [
    "ANSWER",
    "Adapter",
    "ChatAdapter",
    "JSONAdapter",
    "Prompt",
    "ReplyTelling",
    "Splitter",
    "SplittingAdapter",
    "Tell",
    "ToolAdapter",
    "read_row",
]
