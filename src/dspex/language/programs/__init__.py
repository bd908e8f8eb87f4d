"""A program as data: a definition and an assignment. It can be stored, hashed, sent and compared; it cannot run.

`execution.modules` builds the runnable tree from it, and makes it from one.
"""

from dspex.language.programs.node import Children, Node, with_backends
from dspex.language.programs.program import Program

__all__ = ["Children", "Node", "Program", "with_backends"]
