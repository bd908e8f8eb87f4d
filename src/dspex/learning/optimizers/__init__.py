"""How a program improves: optimizers behind one ask/tell seam, and one driver for all of them."""

from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.driver import optimize
from dspex.learning.optimizers.journal import Journal, JsonlJournal, MemoryJournal
from dspex.learning.optimizers.labeled_few_shot import LabeledFewShot
from dspex.learning.optimizers.proposer import Candidate, Optimizer, Proposer, Task, Trial
from dspex.learning.optimizers.search import Estimate, Outcome, Search, Verdict

__all__ = [
    "Candidate",
    "Control",
    "Estimate",
    "Journal",
    "JsonlJournal",
    "LabeledFewShot",
    "MemoryJournal",
    "Optimizer",
    "Outcome",
    "Proposer",
    "Search",
    "Task",
    "Trial",
    "Verdict",
    "optimize",
]
