"""Retrievers of dspy, as users write them."""

import dspy
import numpy

TEXTS = ["You can return a lamp.", "We accept credit cards.", "Shops open at nine."]


def embed(texts):
    words = ["lamp", "cards", "nine"]
    return numpy.array([[float(word in text) + 0.01 for word in words] for text in texts])


embeddings = dspy.retrievers.Embeddings(corpus=TEXTS, embedder=embed, k=2)


class Named:
    """Builds its index with an embedder that the parent has."""

    def __init__(self, model="mine", **settings):
        embedder = dspy.Embedder(model, caching=False, **settings)
        self.search = dspy.retrievers.Embeddings(corpus=TEXTS, embedder=embedder, k=2)

    def __call__(self, query):
        return self.search(query)


def function(query):
    return [text for text in TEXTS if set(query.lower().split()) & set(text.lower().split())]


class ByWords(dspy.Module):
    def __init__(self, limit=3):
        super().__init__()
        self.limit = limit

    def forward(self, query, k=3):
        rows = [
            {"long_text": text, "score": 0.5, "pid": n}
            for n, text in enumerate(TEXTS)
            if query in text
        ]
        return dspy.Prediction(passages=rows[: min(k, self.limit)])


broken = 3


class Rag(dspy.Module):
    """Keeps `dspy.Retrieve` and its own `Embeddings`."""

    def __init__(self):
        super().__init__()
        self.retrieve = dspy.Retrieve(k=1) if hasattr(dspy, "Retrieve") else None
        self.answer = dspy.Predict("context, question -> answer")

    def forward(self, question):
        context = embeddings(question).passages[:1]
        if self.retrieve is not None:
            with dspy.context(rm=lambda query, k, **_: [dspy.Example(long_text=TEXTS[1])]):
                context += self.retrieve(question).passages
        return self.answer(context=context, question=question)
