"""What a program may call besides models: typed functions and modules, with a policy for each."""

from dspex.execution.tools.tool import Policy, Runnable, Tool
from dspex.execution.tools.tool_set import ToolSet

__all__ = ["Policy", "Runnable", "Tool", "ToolSet"]
