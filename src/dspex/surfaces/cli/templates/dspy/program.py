"""A program of dspy. dspex runs it in a worker, and stores every call."""

from typing import Literal

import dspy


class TeamChoice(dspy.Signature):
    """Route a customer's message to the team that can solve it."""

    message: str = dspy.InputField()
    topic: str = dspy.InputField()
    team: Literal["lost card", "failed transfer", "new address"] = dspy.OutputField(
        desc="who should answer"
    )


class Routing(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.summarize = dspy.Predict("message -> topic")
        self.route = dspy.Predict(TeamChoice)

    def forward(self, message: str) -> dspy.Prediction:
        topic = self.summarize(message=message).topic
        return self.route(message=message, topic=topic)
