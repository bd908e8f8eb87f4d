"""Modules: what programs are built of, also those that run other modules several times.

`Predict`, `ChainOfThought`, `ReAct` and `Module` are in `dspex` itself.
"""

from dspex.execution.modules.best_of_n import BestOfN
from dspex.execution.modules.comparison import MultiChainComparison
from dspex.execution.modules.ensemble import Ensemble
from dspex.execution.modules.majority import Majority, most_frequent
from dspex.execution.modules.parallel import Parallel
from dspex.execution.modules.refine import Refine
from dspex.execution.modules.retry import Retry

__all__ = [
    "BestOfN",
    "Ensemble",
    "Majority",
    "MultiChainComparison",
    "Parallel",
    "Refine",
    "Retry",
    "most_frequent",
]
