"""Teams: modules whose members work together in one of six ways.

May be imported by `execution.modules.kinds` and the rooms above.
"""

from dspex.execution.modules.agents.blackboard import Blackboard
from dspex.execution.modules.agents.board import Board
from dspex.execution.modules.agents.coordination import Coordination
from dspex.execution.modules.agents.handoff import Handoff, with_handoff
from dspex.execution.modules.agents.map import Map
from dspex.execution.modules.agents.router import Router
from dspex.execution.modules.agents.sequence import Sequence
from dspex.execution.modules.agents.supervisor import Supervisor
from dspex.execution.modules.agents.team import Team
from dspex.execution.modules.agents.verification import Verifier

__all__ = [
    "Blackboard",
    "Board",
    "Coordination",
    "Handoff",
    "Map",
    "Router",
    "Sequence",
    "Supervisor",
    "Team",
    "Verifier",
    "with_handoff",
]
