"""Tools: typed functions that a program may call.

The policy of each has its timeout, retries and approval.
"""

from dspex.execution.tools.tool import Runnable, Tool, ToolPolicy
from dspex.execution.tools.tool_set import ToolSet
from dspex.language.records import ToolCall

__all__ = ["Runnable", "Tool", "ToolCall", "ToolPolicy", "ToolSet"]
