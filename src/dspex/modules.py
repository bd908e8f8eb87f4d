"""Modules: what programs are built of, also those that run other modules several times.

`Predict`, `ChainOfThought`, `ReAct` and `Module` are in `dspex` itself.
"""

from dspex.execution.modules.best_of_n import BestOfN
from dspex.execution.modules.code_act import CodeAct
from dspex.execution.modules.comparison import MultiChainComparison
from dspex.execution.modules.ensemble import Ensemble
from dspex.execution.modules.majority import Majority, most_frequent
from dspex.execution.modules.parallel import Parallel
from dspex.execution.modules.program_of_thought import ProgramOfThought
from dspex.execution.modules.refine import Refine
from dspex.execution.modules.retry import Retry
from dspex.execution.modules.rlm import RLM
from dspex.execution.sandbox import (
    DenoSandbox,
    Sandbox,
    SandboxLimits,
    SandboxResult,
    SandboxSession,
    find_sandbox,
)

__all__ = [
    "RLM",
    "BestOfN",
    "CodeAct",
    "DenoSandbox",
    "Ensemble",
    "Majority",
    "MultiChainComparison",
    "Parallel",
    "ProgramOfThought",
    "Refine",
    "Retry",
    "Sandbox",
    "SandboxLimits",
    "SandboxResult",
    "SandboxSession",
    "find_sandbox",
    "most_frequent",
]
