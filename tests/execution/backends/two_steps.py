"""A program of two modules, for tests of programs that run in several places."""

import asyncio
import os
import threading

import dspex


class TwoSteps(dspex.Module):
    signature = "question -> answer: int, sure: bool"

    def __init__(self):
        self.search = dspex.Predict("question -> query")
        self.steps = [dspex.Predict("question, query -> answer: int, sure: bool")]

    async def forward(self, question):
        result = await self.search.acall(question=question)
        return await self.steps[0].acall(question=question, query=result.query)


class Where(dspex.Module):
    signature = "question -> pid: int"

    async def forward(self, question):
        return {"pid": os.getpid()}


class More(dspex.Module):
    """Answers more than its signature says."""

    signature = "question -> answer: int"

    async def forward(self, question):
        return {"answer": "7", "sources": ["a", {"b": 1.5}], "note": None}


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
        result = await self.search.acall(question=question)
        return await self.steps[0].acall(question=question, query=result.query)


class Plain(dspex.Module):
    """Calls its parts without a word about loops."""

    signature = "question -> answer: int, sure: bool"

    def __init__(self, search: str = "native", last: str = "native"):
        parts = (
            dspex.Predict("question -> query"),
            dspex.Predict("question, query -> answer: int, sure: bool"),
        )
        self.search = parts[0] if search == "native" else parts[0].on(search)
        self.steps = [parts[1] if last == "native" else parts[1].on(last)]

    def forward(self, question: str):
        return self.steps[0](question=question, query=self.search(question=question).query)


class OwnLoop(Plain):
    """Runs its own loop in the thread that it is called in."""

    def forward(self, question: str):
        return asyncio.run(self.work(question))

    async def work(self, question):
        result = await self.search.acall(question=question)
        return await self.steps[0].acall(question=question, query=result.query)


class Blocking(Plain):
    """Blocks the loop that the answer would come on."""

    async def forward(self, question):
        return super().forward(question)


class Endless(dspex.Module):
    """Answers a number that JSON does not have."""

    signature = "question: any -> answer: any"

    def forward(self, question):
        return {"answer": [float("inf")]}


class Asking(dspex.Module):
    signature = "question -> answer"

    async def forward(self, question):
        try:
            answer = await dspex.ask("text -> sure: bool", text=question)
        except dspex.errors.WaitingForAnswerError:
            return {"answer": "the run went on"}
        return {"answer": str(answer.sure)}
