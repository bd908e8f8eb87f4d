"""Route a customer's message to the team that can solve it."""

from typing import Literal

import dspex


class Triage(dspex.Signature):
    """Route a customer's message to the team that can solve it."""

    message: str
    team: Literal["water", "power", "waste", "transit", "internet", "pools"] = dspex.Output(desc="who should answer")


triage = dspex.Predict(Triage)
