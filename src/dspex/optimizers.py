"""Optimizers: searches over everything that a program declares as a variable.

`optimize(program, optimizer, train=..., metric=...)` runs a search and returns an `Outcome`;
`await aoptimize(...)` does so in async code. A `Search` holds the budget, the journal and the
objectives. A custom optimizer implements `Optimizer` and `Proposer`.
"""

from dspex.learning.optimizers.bootstrap import BootstrapFewShot
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.driver import aoptimize, optimize
from dspex.learning.optimizers.importance import aablate, ablate, importance
from dspex.learning.optimizers.joint import Joint
from dspex.learning.optimizers.journal import Journal, JsonlJournal
from dspex.learning.optimizers.labeled_few_shot import LabeledFewShot
from dspex.learning.optimizers.mipro import MIPROv2
from dspex.learning.optimizers.proposer import Candidate, Optimizer, Proposer, Task, Trial
from dspex.learning.optimizers.random_search import RandomSearch
from dspex.learning.optimizers.search import Outcome, Search

__all__ = [
    "BootstrapFewShot",
    "Candidate",
    "Control",
    "Joint",
    "Journal",
    "JsonlJournal",
    "LabeledFewShot",
    "MIPROv2",
    "Optimizer",
    "Outcome",
    "Proposer",
    "RandomSearch",
    "Search",
    "Task",
    "Trial",
    "aablate",
    "ablate",
    "aoptimize",
    "importance",
    "optimize",
]
