"""Programs of dspy in the shapes that people write; imported in workers and on plain dspy only."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import dspy
from dspy import Prediction
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence


def search(query, k=3):
    """A retriever as a function."""
    return [f"{query} {n}" for n in range(k)]


def look_up(word: str) -> str:
    """Look a word up."""
    return f"here {word}"


class City(BaseModel):
    name: str
    size: int


class Box(BaseModel):
    name: str
    size: int = 1


@dataclass
class Filter:
    language: str
    newest: bool = False


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class QA(dspy.Signature):
    """Answer the question."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="a short one")


class Triage(dspy.Signature):
    """Sort a message."""

    message: str = dspy.InputField()
    label: Literal["low", "high"] = dspy.OutputField()
    confidence: float = dspy.OutputField()


class Extract(dspy.Signature):
    """Find the city."""

    text: str = dspy.InputField()
    city: City = dspy.OutputField()
    boxes: list[Box] = dspy.OutputField()


bare_predict = dspy.Predict("question -> answer")
bare_list = dspy.Predict("context, question -> answer")
bare_thought = dspy.ChainOfThought(QA)
bare_react = dspy.ReAct("question -> answer", tools=[look_up], max_iters=3)
best = dspy.BestOfN(dspy.ChainOfThought(QA), N=2, reward_fn=lambda inputs, pred: 0.0, threshold=1.0)


class Rag(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.ChainOfThought("context, question -> answer")

    def forward(self, question: str, k=2):
        context = search(question, k)
        pred = self.answer(context=context, question=question)
        return dspy.Prediction(context=context, answer=pred.answer)


class OtherOrder(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question, query -> answer")
        self.query = dspy.Predict("question -> query")

    def forward(self, question):
        return self.answer(question=question, query=self.query(question=question).query)


class OtherNames(dspy.Module):
    def __init__(self):
        super().__init__()
        self.generate = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        return dspy.Prediction(response=self.generate(question=question).answer)


class AnswerAlone(dspy.Module):
    def __init__(self):
        super().__init__()
        self.generate = dspy.ChainOfThought(QA)

    def forward(self, question: str) -> dspy.Prediction:
        thought = self.generate(question=question)
        return Prediction(answer=thought.answer)


class Defaults(dspy.Module):
    def __init__(self):
        super().__init__()
        self.write = dspy.Predict("topic, style, words -> text")

    def forward(
        self,
        topic,
        style="plain",
        *,
        words: int = 20,
        seen: list[str] | None = None,
        join=", ".join,
    ):
        text = self.write(topic=topic, style=style, words=str(words)).text
        return dspy.Prediction(text=text, seen=join(seen or ["nothing"]))


class ImplicitNone(dspy.Module):
    def __init__(self):
        super().__init__()
        self.write = dspy.Predict("notes, question -> answer")

    def forward(self, question: str, notes: list[str] = None):  # type: ignore[assignment]  # noqa: RUF013  # people write it
        return self.write(question=question, notes=notes or [])


class Untyped(dspy.Module):
    def __init__(self):
        super().__init__()
        self.sum_up = dspy.Predict("documents -> summary")

    def forward(self, documents, settings):
        summary = self.sum_up(documents=documents)
        return dspy.Prediction(
            summary=summary.summary, size=len(documents), language=settings["language"]
        )


class Inner(dspy.Module):
    def __init__(self):
        super().__init__()
        self.query = dspy.Predict("question -> query")

    def forward(self, question):
        query = self.query(question=question).query
        return dspy.Prediction(query=query, passages=search(query))


class Nested(dspy.Module):
    def __init__(self):
        super().__init__()
        self.retrieve = Inner()
        self.answer = dspy.Predict("passages, question -> answer")

    def forward(self, question):
        result = self.retrieve(question=question)
        answer = self.answer(passages=result.passages, question=question).answer
        return dspy.Prediction(answer=answer, **result)


class Delegating(dspy.Module):
    def __init__(self):
        super().__init__()
        self.inner = Nested()

    def forward(self, **kwargs):
        return self.inner(**kwargs)


class KeywordsRead(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question, hint -> answer")

    def forward(self, **kwargs):
        hint = kwargs.get("hint", "none")
        return self.answer(question=kwargs["question"], hint=hint)


class Async(dspy.Module):
    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("question -> query")
        self.answer = dspy.Predict("query -> answer")

    async def aforward(self, question: str):
        query = (await self.first.acall(question=question)).query
        pred = await self.answer.acall(query=query)
        return dspy.Prediction(answer=pred.answer, query=query)


class Both(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)

    async def aforward(self, question):
        return await self.answer.acall(question=question)


class Agent(dspy.Module):
    def __init__(self):
        super().__init__()
        self.agent = dspy.ReAct("question -> answer", tools=[look_up], max_iters=3)
        self.check = dspy.Predict("question, answer -> is_done: bool")

    def forward(self, question):
        pred = self.agent(question=question)
        verdict = self.check(question=question, answer=pred.answer)
        return dspy.Prediction(answer=pred.answer, trajectory=pred.trajectory, done=verdict.is_done)


class Fan(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, questions: list[str]):
        pairs = [(self.ask, {"question": question}) for question in questions]
        results = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
        return dspy.Prediction(answers=[result.answer for result in results], count=len(results))


class Refined(dspy.Module):
    def __init__(self):
        super().__init__()
        self.write = dspy.Refine(
            dspy.Predict(QA), N=2, reward_fn=lambda inputs, pred: 1.0, threshold=1.0
        )

    def forward(self, question):
        return self.write(question=question)


class Models(dspy.Module):
    def __init__(self):
        super().__init__()
        self.extract = dspy.Predict(Extract)

    def forward(self, text: str):
        result = self.extract(text=text)
        total = sum(box.size for box in result.boxes)
        return dspy.Prediction(city=result.city, boxes=result.boxes, total=total)


class ModelInput(dspy.Module):
    def __init__(self):
        super().__init__()
        self.tell = dspy.Predict("name, size -> story")

    def forward(
        self,
        city: City,
        wanted: Filter,
        level: Level = Level.LOW,
        pair: tuple[str, ...] = ("a", "b"),
    ):
        pred = self.tell(name=city.name, size=str(city.size))
        summary = f"{wanted.language} {level.name} {type(pair).__name__}"
        return dspy.Prediction(story=pred.story, shown=summary, city=city)


class Hops(dspy.Module):
    def __init__(self, hops=2):
        super().__init__()
        self.queries = [dspy.ChainOfThought("context, question -> query") for _ in range(hops)]
        self.answer = dspy.ChainOfThought("context, question -> answer")

    def forward(self, question):
        context = []
        for query in self.queries:
            context += search(query(context=context, question=question).query, k=1)
        pred = self.answer(context=context, question=question)
        return dspy.Prediction(context=context, answer=pred.answer)


class Chain(dspy.Module):
    def __init__(self):
        super().__init__()
        self.steps = [dspy.Predict("text -> text2, note"), dspy.Predict("text -> text2")]

    def forward(self, text):
        for number, step in enumerate(self.steps):
            pred = step(text=f"{number} {text}")
            text = pred.text2
        return pred


class Routed(dspy.Module):
    def __init__(self):
        super().__init__()
        self.route = dspy.Predict("question -> category")
        self.experts = {"travel": dspy.Predict(QA), "food": dspy.ChainOfThought(QA)}

    def forward(self, question):
        category = self.route(question=question).category
        return self.experts[category](question=question)


class Majority(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        samples = [
            self.ask(question=question, config={"temperature": 0.5 + n / 10}) for n in range(3)
        ]
        return dspy.majority(samples, field="answer")


class Compared(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer")
        self.compare = dspy.MultiChainComparison("question -> answer", M=2)

    def forward(self, question):
        attempts = [self.ask(question=question, config={"temperature": 0.1 * n}) for n in range(2)]
        return self.compare(attempts, question=question)


comparison = dspy.MultiChainComparison("question -> answer", M=2)


class Branches(dspy.Module):
    def __init__(self):
        super().__init__()
        self.label = dspy.Predict(Triage)
        self.reply = dspy.Predict("message -> reply")

    def forward(self, message):
        triage = self.label(message=message)
        if triage.label == "low":
            return dspy.Prediction(label=triage.label)
        return dspy.Prediction(
            label=triage.label, reply=self.reply(message=message).reply, confidence=0.25
        )


class Helpers(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer, confidence: float")

    def _finish(self, pred, question):
        return dspy.Prediction(answer=pred.answer, confidence=pred.confidence, question=question)

    def forward(self, question):
        return self._finish(self.ask(question=question), question)


class Child(Rag):
    def forward(self, question: str, k: int = 1):
        pred = super().forward(question, k)
        pred.passages = len(pred.context)
        return pred


def finish(pred, **more):
    return dspy.Prediction(answer=pred.answer, **more)


class FunctionBeside(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return finish(self.ask(question=question), length=len(question))


class Changed(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer, count: int")

    def forward(self, question):
        pred = self.ask(question=question)
        pred.answer = pred.answer.lower().split()
        pred["sources"] = search(question)
        del pred["reasoning"]
        return pred


class Splat(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer, stars: int")

    def forward(self, question):
        fields = {"question": question, "kind": "splat"}
        return dspy.Prediction(**fields, **self.ask(question=question))


class Candidates(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer, confidence: float")

    def forward(self, question, n: int = 2):
        candidates = []
        for number in range(n):
            candidates.append(self.ask(question=question, config={"temperature": 0.2 * number}))
        return max(candidates, key=lambda pred: pred.confidence)


class Loop(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question, notes -> note, is_done: bool")

    def forward(self, question, limit=3):
        notes = []
        for number in range(limit):
            pred = self.step(question=question, notes=notes)
            notes.append(pred.note)
            if pred.is_done:
                return dspy.Prediction(notes=notes, rounds=number + 1)
        return dspy.Prediction(notes=notes, rounds=limit, gave_up=True)


class MadeInside(dspy.Module):
    def forward(self, question):
        ask = dspy.ChainOfThought("question -> answer, stars: int")
        return ask(question=question)


def logged(function):
    @functools.wraps(function)
    def call(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    return call


class Decorated(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    @logged
    def forward(self, question, tone="kind"):
        return dspy.Prediction(answer=self.ask(question=question).answer, tone=tone)


class Unreadable(dspy.Module):
    """Nothing tells what it returns: the guess is the last predictor's output.

    Which is not in the answer.
    """

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.makers = {"it": lambda text: dspy.Prediction(text=text, size=len(text))}

    def forward(self, question: str, how: Sequence[str] = ("it",)):
        return self.makers[how[0]](self.ask(question=question).answer)


class Copied(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        return self.ask(question=question).copy(question=question).without("reasoning")


class ReservedNames(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("remove, name -> extend, answer")

    def forward(self, remove, name="n"):
        return self.ask(remove=remove, name=name)


class Talk(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("history: dspy.History, question -> answer")

    def forward(self, question: str, history: dspy.History | None = None):
        return self.step(question=question, history=history or dspy.History(messages=[]))


class Fallback(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        try:
            pred = self.ask(question=question)
        except ValueError:
            return dspy.Prediction(answer="unknown", reasoning="")
        return pred if pred.answer else dspy.Prediction(answer="nothing", reasoning=pred.reasoning)


class ExampleReturned(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answers: list[str], scores: dict[str, int]")

    def forward(self, question: str):
        pred = self.ask(question=question)
        return dspy.Example(best=pred.answers[0], answers=pred.answers, scores=pred.scores)


class Bounded(dspy.Module):
    def __init__(self):
        super().__init__()
        fields = {"text": (str, dspy.InputField()), "stars": (int, dspy.OutputField(le=3))}
        self.rate = dspy.Predict(dspy.Signature(fields))

    def forward(self, text, best: float = float("-inf"), picks: frozenset = frozenset("a")):
        pred = self.rate(text=text)
        pred.seen = f"{best} {sorted(picks)}"
        return pred


class DictReturned(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer, stars: int")

    def forward(self, question):
        with dspy.context(track_usage=False):
            fields = {}
            fields["answer"] = self.ask(question=question).answer
        return {"kind": "dict", **fields}


class Again(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer, is_done: bool")

    def forward(self, question, depth: int = 0):
        pred = self.step(question=question)
        if depth < 2:
            return self(question=f"{question} {pred.answer}", depth=depth + 1)
        return dspy.Prediction(answer=pred.answer, depth=depth)


class KeywordsBeside(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("context, question -> answer")

    def forward(self, k: int = 1, **inputs):
        return self.ask(context=search("it", k), **inputs)


class Gathered(dspy.Module):
    def __init__(self):
        super().__init__()
        self.one = dspy.Predict("question -> answer")
        self.two = dspy.Predict("question -> query")

    async def aforward(self, question):
        import asyncio

        first, second = await asyncio.gather(
            self.one.acall(question=question), self.two.acall(question=question)
        )
        return dspy.Prediction(answer=first.answer, query=second.query)


def instances(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that a caller of plain dspy gives as instances of classes."""
    if name == "ModelInput":
        return {"city": City(**inputs["city"]), "wanted": Filter(**inputs["wanted"])}
    return {}
