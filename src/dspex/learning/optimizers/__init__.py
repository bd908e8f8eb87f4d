"""How a program improves: optimizers behind one ask/tell seam, and one driver for all of them."""

from dspex.learning.optimizers.labeled_few_shot import LabeledFewShot
from dspex.learning.optimizers.optimize import Outcome, Search, optimize
from dspex.learning.optimizers.proposer import Candidate, Optimizer, Proposer, Task, Trial

__all__ = [
    "Candidate",
    "LabeledFewShot",
    "Optimizer",
    "Outcome",
    "Proposer",
    "Search",
    "Task",
    "Trial",
    "optimize",
]
