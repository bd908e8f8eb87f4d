"""The dspy side of the comparison: reads cases from standard input, writes the results of dspy."""

import json
import os
import sys
import tempfile
import warnings
from types import SimpleNamespace
from typing import Literal, Optional

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
warnings.simplefilter("ignore")

import dspy  # noqa: E402
from dspy.clients.base_lm import BaseLM  # noqa: E402
from pydantic import BaseModel  # noqa: E402


class Person(BaseModel):
    name: str
    age: int


class Typed(dspy.Signature):
    """Fill the fields."""

    text: str = dspy.InputField()
    n: int = dspy.OutputField()
    ratio: float = dspy.OutputField()
    is_it: bool = dspy.OutputField()
    mood: Literal["glad", "sad"] = dspy.OutputField()
    words: list[str] = dspy.OutputField()
    person: Person = dspy.OutputField()
    note: Optional[str] = dspy.OutputField()  # noqa: UP045


class Scripted(BaseLM):
    def __init__(self, replies):
        super().__init__("scripted", cache=False)
        self.replies = list(replies)

    def forward(self, prompt=None, messages=None, **kwargs):
        text = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        choice = SimpleNamespace(message=SimpleNamespace(content=text), finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage={}, model="scripted")


def lookup(city: str) -> str:
    """Look up the weather of a city."""
    return f"{city}: 21 degrees"


def degrees(city: str) -> int:
    """Look up the degrees of a city."""
    return {"Paris": 21, "Rome": 25}[city]


def answer_length(_args, prediction):
    return float(len(prediction.answer))


def comparison():
    """Return a MultiChainComparison of two completions that the caller passes."""
    compare = dspy.MultiChainComparison("question -> answer", M=2)
    completions = [
        dspy.Prediction(reasoning=f"because {text}", answer=text) for text in ("one", "two")
    ]
    return lambda **inputs: compare(completions, **inputs)


def majority():
    predict = dspy.Predict("question -> answer")

    def vote(**inputs):
        return dspy.majority([predict(**inputs, config={"rollout_id": n}) for n in range(3)])

    return vote


class Both(dspy.Module):
    def __init__(self):
        self.cot = dspy.ChainOfThought("question -> answer")
        self.preds = [dspy.Predict("a_thing, b -> c")]
        self.d = {"k": dspy.Predict("x -> y")}
        self.agent = dspy.ReAct("question -> degrees: int", tools=[lookup])


def many():
    predict = dspy.Predict("question -> answer")
    parallel = dspy.Parallel(num_threads=1, disable_progress_bar=True)

    def run(rows):
        results = parallel([(predict, row) for row in rows])
        return {"results": [dict(result.items()) for result in results]}

    return run


def nearest():
    """Return a predictor with the two demonstrations that are nearest to its inputs."""
    train = [dspy.Example(**row).with_inputs("question") for row in POOL]
    predict = dspy.Predict("question -> answer")
    choose = dspy.KNN(2, train, vectorizer=dspy.Embedder(letters))

    def run(question):
        demos = choose(question=question)
        prediction = predict(question=question, demos=demos)
        return {**dict(prediction.items()), "demos": [demo.question for demo in demos]}

    return run


POOL = [
    {"question": text, "answer": text.upper()} for text in ("aaab", "abbb", "bbbb", "aabb", "cccc")
]


def letters(texts):
    """Embed texts by the letters after the name of the field, as vectors of length 1."""
    counts = [[text.rpartition(": ")[2].count(letter) for letter in "abc"] for text in texts]
    return [[n / sum(m * m for m in row) ** 0.5 for n in row] for row in counts]


def outputs(module, adapter, replies, inputs=None):
    local = {"interpreter_factory": dspy.LocalInterpreter}
    program = {
        "thought": lambda: dspy.ProgramOfThought("numbers: list[int] -> total: int", **local),
        "code": lambda: dspy.CodeAct("question -> total: int", tools=[degrees], **local),
        "rlm": lambda: dspy.RLM("text -> n: int, label", max_iters=2, **local),
        "many": many,
        "nearest": nearest,
        "qa": lambda: dspy.Predict("question -> answer"),
        "typed": lambda: dspy.Predict(Typed),
        "cot": lambda: dspy.ChainOfThought("question -> answer"),
        "react": lambda: dspy.ReAct("question -> degrees: int", tools=[lookup]),
        "best": lambda: dspy.BestOfN(
            dspy.Predict("question -> answer"), N=3, reward_fn=answer_length, threshold=3.0
        ),
        "refine": lambda: dspy.Refine(
            dspy.Predict("question -> answer"), N=2, reward_fn=answer_length, threshold=3.0
        ),
        "compare": comparison,
        "majority": majority,
    }[module]()
    kind = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}[adapter]()
    try:
        with dspy.context(lm=Scripted(replies), adapter=kind):
            prediction = program(**(inputs or {"question": "q"}))
    except Exception:  # noqa: BLE001  # whatever dspy raises counts as an error
        return "error"
    if module == "react":
        return {"degrees": prediction.degrees}
    return {
        name: value.model_dump() if isinstance(value, BaseModel) else value
        for name, value in prediction.items()
        if name not in {"trajectory", "final_reasoning"}  # each has its own form
    }


def saved():
    program = Both()
    program.preds[0].demos = [dspy.Example(a_thing="1", b="2", c="3").with_inputs("a_thing", "b")]
    program.cot.predict.signature = program.cot.predict.signature.with_instructions("Be brief.")
    program.cot.predict.lm = dspy.LM(
        "openai/gpt-4o-mini", api_key="sk-secret", temperature=0.3, top_p=0.5
    )
    program.agent.react.demos = [
        dspy.Example(
            question="Rome?",
            trajectory="",
            next_thought="look",
            next_tool_name="lookup",
            next_tool_args={"city": "Rome"},
        ).with_inputs("question", "trajectory")
    ]
    program.agent.extract.predict.demos = [
        dspy.Example(augmented=True, question="Rome?", trajectory="t", reasoning="r", degrees=30)
    ]
    with tempfile.TemporaryDirectory() as folder:
        program.save(f"{folder}/state.json")
        with open(f"{folder}/state.json") as file:
            return json.load(file)


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    if sys.argv[1:] == ["load"]:
        program = Both()
        program.load_state({name: part for name, part in cases.items() if name != "metadata"})
        sys.stdout.write(json.dumps(program.dump_state(), default=dict))
    else:
        sys.stdout.write(
            json.dumps(
                {
                    "outputs": {name: outputs(*case) for name, case in cases.items()},
                    "state": saved(),
                }
            )
        )
