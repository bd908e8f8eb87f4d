"""Tools that a program may call: typed functions and modules, each with a policy."""

from dspex.execution.tools.tool import Runnable, Tool, ToolPolicy
from dspex.execution.tools.tool_set import ToolSet

__all__ = ["Runnable", "Tool", "ToolPolicy", "ToolSet"]
