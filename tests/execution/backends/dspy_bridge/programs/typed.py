"""Programs with models of the user's own, with dspy's media types.

And of every shape that a module may have.
"""

from typing import Literal

import dspy
from pydantic import BaseModel, Field


class Address(BaseModel):
    street: str = Field(description="the street", min_length=1)
    zip: int = Field(ge=1)


class Customer(BaseModel):
    name: str
    home: Address
    others: list[Address] = []
    work: Address | None = None
    rank: Literal["new", "old"] = "new"


class Part(BaseModel):
    name: str
    parts: list["Part"] = []


class Ship(dspy.Signature):
    """Say where it goes."""

    customer: Customer = dspy.InputField(desc="who ordered")
    to: Address | None = dspy.OutputField(desc="where it goes")
    boxes: list[Part] = dspy.OutputField()


class Shipping(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ship = dspy.Predict(Ship)

    def forward(self, customer):
        result = self.ship(customer=customer)
        # models, not dicts
        street = customer.work.street if customer.work else customer.home.street
        return dspy.Prediction(
            to=result.to, boxes=result.boxes, seen=f"{street} {len(customer.others)}"
        )


class Talk(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("history: dspy.History, question -> answer")

    def forward(self, history, question):
        return self.step(history=history, question=question)


class Look(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("image: dspy.Image, question -> answer")

    def forward(self, image, question):
        if question == "which?":
            return dspy.Prediction(answer=image.url)
        return self.step(image=image, question=question)


class Write(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> code: dspy.Code, calls: dspy.ToolCalls")

    def forward(self, question):
        return self.step(question=question)


class Async(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer: int")

    async def aforward(self, question: str):
        return await self.step.acall(question=question)


class Odd(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return None if question == "none" else "a text"


def look_up(word: str) -> str:
    """Look a word up."""
    return f"here {word}"


def count(word: str) -> int:
    """Count letters."""
    return len(word)


class Agent(dspy.Module):
    def __init__(self):
        super().__init__()
        self.agent = dspy.ReAct("question -> answer: int", tools=[look_up, count], max_iters=1)

    def forward(self, question: str):
        return self.agent(question=question)


class Media(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict(
            "image: dspy.Image, sound: dspy.Audio, paper: dspy.File, question -> answer"
        )

    def forward(self, image, sound, paper, question):
        return self.step(image=image, sound=sound, paper=paper, question=question)
