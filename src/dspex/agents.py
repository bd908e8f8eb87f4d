"""Agents in teams: six ways for modules to work together, and their limits.

`ReAct`, the agent that works alone with tools, is in `dspex` itself.
"""

from dspex.execution.modules.agents import (
    Blackboard,
    Board,
    Coordination,
    Handoff,
    Map,
    Router,
    Sequence,
    Supervisor,
    Team,
    Verifier,
    with_handoff,
)
from dspex.execution.modules.stored_program import StoredProgram
from dspex.execution.team_run import TeamLimits

__all__ = [
    "Blackboard",
    "Board",
    "Coordination",
    "Handoff",
    "Map",
    "Router",
    "Sequence",
    "StoredProgram",
    "Supervisor",
    "Team",
    "TeamLimits",
    "Verifier",
    "with_handoff",
]
