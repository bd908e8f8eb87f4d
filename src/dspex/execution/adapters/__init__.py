"""From a signature and inputs to messages, and from a reply back to outputs. Pure: no I/O, no clock."""

from dspex.execution.adapters.adapter import Adapter, Prompt
from dspex.execution.adapters.chat import ChatAdapter
from dspex.execution.adapters.json import JSONAdapter

__all__ = ["Adapter", "ChatAdapter", "JSONAdapter", "Prompt"]
