"""Route a customer's message to the team that can solve it."""

from typing import Literal

import dspex


class Triage(dspex.Signature):
    """Route a customer's message to the team that can solve it."""

    message: str
    team: Literal[
        "lost card", "exchange rate", "failed transfer", "new address", "forgotten PIN", "home loan"
    ] = dspex.Output(desc="who should answer")


triage = dspex.Predict(Triage)
