"""Optimizers: searches over everything that a program declares as a variable.

`optimize(program, optimizer, train=..., metric=...)` runs a search and returns an `Outcome`;
`await aoptimize(...)` does so in async code. A `Search` holds the budget, the journal and the
objectives. A custom optimizer implements `Optimizer` and `Proposer`.
"""

from dspex.learning.optimizers import registry
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.driver import aoptimize, optimize
from dspex.learning.optimizers.importance import aablate, ablate, importance
from dspex.learning.optimizers.journal import Journal, JsonlJournal
from dspex.learning.optimizers.proposer import (
    Additions,
    Candidate,
    Optimizer,
    Proposer,
    SearchQuestion,
    SearchReply,
    Task,
    Trial,
)
from dspex.learning.optimizers.registry import *  # noqa: F403  # whatever is registered
from dspex.learning.optimizers.search import Outcome, Search
from dspex.learning.optimizers.team_worth import TeamWorth, Worth, aablate_members, ablate_members

__all__ = [
    "Additions",
    "Candidate",
    "Control",
    "Journal",
    "JsonlJournal",
    "Optimizer",
    "Outcome",
    "Proposer",
    "Search",
    "SearchQuestion",
    "SearchReply",
    "Task",
    "TeamWorth",
    "Trial",
    "Worth",
    "aablate",
    "aablate_members",
    "ablate",
    "ablate_members",
    "aoptimize",
    "importance",
    "optimize",
]
__all__ += registry.__all__
