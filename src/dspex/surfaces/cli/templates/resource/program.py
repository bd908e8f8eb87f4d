"""Sort customers' messages by the team that can solve them."""

from typing import Literal

import dspex


class Triage(dspex.Signature):
    """Route a customer's message to the team that can solve it."""

    message: str
    team: Literal["lost card", "failed transfer", "new address"] = dspex.Output(desc="who answers")


triage = dspex.Predict(Triage)
