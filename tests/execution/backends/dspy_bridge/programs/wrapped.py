"""The modules of dspy that run others, as a user of dspy writes them."""

import dspy
from rewards import answer_length, square  # type: ignore[import-not-found]  # in this folder

QA = dspy.Signature("question -> answer", "Answer the question.")


def _copy(module, number):
    copy = module.deepcopy()
    copy.set_lm(dspy.settings.lm.copy(rollout_id=number, temperature=1.0))
    return copy


class Best(dspy.Module):
    def __init__(self, n=3, threshold=3.0):
        super().__init__()
        self.best = dspy.BestOfN(dspy.Predict(QA), n, answer_length, threshold)

    def forward(self, question):
        return self.best(question=question)


class Refined(dspy.Module):
    def __init__(self):
        super().__init__()
        self.refine = dspy.Refine(dspy.ChainOfThought(QA), 2, answer_length, 4.0)

    def forward(self, question):
        return self.refine(question=question)


class Vote(dspy.Module):
    def __init__(self):
        super().__init__()
        self.part = dspy.Predict(QA)

    def forward(self, question):
        return dspy.majority([_copy(self.part, n)(question=question) for n in range(3)])


class Compared(dspy.Module):
    def __init__(self):
        super().__init__()
        self.compare = dspy.MultiChainComparison(QA, M=2)

    def forward(self, question, completions):
        return self.compare(completions, question=question)


class Many(dspy.Module):
    def __init__(self):
        super().__init__()
        self.part = dspy.Predict(QA)

    def forward(self, rows):
        parallel = dspy.Parallel(num_threads=1, disable_progress_bar=True)
        results = parallel([(self.part, row) for row in rows])
        return dspy.Prediction(results=[dict(result.items()) for result in results])


class Acting(dspy.Module):
    def __init__(self):
        super().__init__()
        self.act = dspy.CodeAct(QA, [square], max_iters=2, interpreter_factory=_local())

    def forward(self, question):
        return self.act(question=question)


class Exploring(dspy.Module):
    def __init__(self):
        super().__init__()
        self.rlm = dspy.RLM(QA, max_iters=3, interpreter_factory=_local())

    def forward(self, question):
        return self.rlm(question=question)


def _local():
    return dspy.LocalInterpreter
