"""A program of two modules, for tests of programs that run in several places."""

import os
import threading

import dspex


class TwoSteps(dspex.Module):
    signature = "question -> answer: int, sure: bool"

    def __init__(self):
        self.search = dspex.Predict("question -> query")
        self.steps = [dspex.Predict("question, query -> answer: int, sure: bool")]

    async def forward(self, question):
        found = await self.search.acall(question=question)
        return await self.steps[0].acall(question=question, query=found.query)


class Where(dspex.Module):
    signature = "question -> pid: int"

    async def forward(self, question):
        return {"pid": os.getpid()}


class Crash(dspex.Module):
    signature = "question -> answer"

    def forward(self, question):
        if question == "die":
            os.kill(os.getpid(), 9)
        threading.Event().wait()


class Mixed(dspex.Module):
    """Says itself which part runs elsewhere."""

    signature = "question -> answer: int, sure: bool"
    isolation = "process"

    def __init__(self):
        self.search = dspex.Predict("question -> query").on("mock")
        self.steps = [dspex.Predict("question, query -> answer: int, sure: bool")]
        self.backend = "a user's own attribute"

    async def forward(self, question):
        found = await self.search.acall(question=question)
        return await self.steps[0].acall(question=question, query=found.query)
