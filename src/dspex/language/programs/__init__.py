"""Programs as data: a definition and an assignment, to store, hash, send and compare.

`execution.modules` builds runnable modules from programs and converts modules to programs.
"""

from dspex.language.programs.module_path import ROOT, ModulePath
from dspex.language.programs.node import Children, Node, with_backends
from dspex.language.programs.program import Program

__all__ = ["ROOT", "Children", "ModulePath", "Node", "Program", "with_backends"]
