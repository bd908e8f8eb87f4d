"""A program as a user of dspy writes it; imported in the worker only."""

from typing import Literal

import dspy


class Hops(dspy.Module):
    def __init__(self, hops: int = 2):
        super().__init__()
        self.search = dspy.Predict("question -> query")
        self.answer = dspy.ChainOfThought(
            dspy.Signature(
                {
                    "question": (str, dspy.InputField(desc="what is asked")),
                    "notes": (list[str], dspy.InputField()),
                    "answer": (str, dspy.OutputField(min_length=1)),
                    "trust": (Literal["low", "high"], dspy.OutputField(desc="how sure")),
                },
                "Answer from the notes.",
            )
        )
        self.hops = hops

    def forward(self, question: str):
        notes = [self.search(question=question).query for _ in range(self.hops)]
        return self.answer(question=question, notes=notes)


class OwnModels(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer")
        self.step.lm = dspy.LM("far/able", temperature=0.25, api_key="of no use here")
        self.check = dspy.Predict("question -> answer")

    def forward(self, question: str):
        self.step(question=question)
        with dspy.context(lm=dspy.LM("openai/m", api_base="http://near/v1", max_tokens=77)):
            return self.check(question=question)


class Fan(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str):
        each = [
            (self.step, dspy.Example(question=f"{question}{n}").with_inputs("question"))
            for n in range(3)
        ]
        return dspy.Parallel(num_threads=3, disable_progress_bar=True)(each)[0]


class Slow(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str):
        while True:
            self.step(question=question)


class Crash(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str):
        import os

        os.kill(os.getpid(), 9)


NOT_A_MODULE = 3
