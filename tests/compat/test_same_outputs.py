"""dspy and dspex on the same replies: the parsed outputs are the same.

dspy runs in its own interpreter (`DSPEX_DSPY_PYTHON`, else this one where it is installed).
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy
import pytest
from pydantic import BaseModel

from dspex import (
    ChainOfThought,
    Module,
    Output,
    Predict,
    Prediction,
    ReAct,
    Signature,
    from_dspy_state,
    to_dspy_state,
)
from dspex.errors import AdapterError
from dspex.execution.context import RunContext
from dspex.language.records import Usage
from dspex.models import EmbeddingKind, Embeddings
from dspex.modules import (
    RLM,
    BestOfN,
    CodeAct,
    Majority,
    MultiChainComparison,
    Parallel,
    ProgramOfThought,
    Refine,
)
from dspex.testing import ScriptedModel

PYTHON = os.environ.get("DSPEX_DSPY_PYTHON") or (
    sys.executable if importlib.util.find_spec("dspy") else ""
)
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        not PYTHON, reason="needs dspy 3.4, here or in the interpreter that DSPEX_DSPY_PYTHON names"
    ),
]
PEER = Path(__file__).parent / "dspy_peer.py"


class Person(BaseModel):
    name: str
    age: int


class Typed(Signature):
    """Fill the fields."""

    text: str
    n: int = Output()
    ratio: float = Output()
    is_it: bool = Output()
    mood: Literal["glad", "sad"] = Output()
    words: list[str] = Output()
    person: Person = Output()
    note: str | None = Output()


FIELDS = {
    "n": "3",
    "ratio": "0.5",
    "is_it": "True",
    "mood": "glad",
    "words": '["a", "b"]',
    "person": '{"name": "Ada", "age": 36}',
    "note": "x",
}


def chat(fields: dict[str, str]) -> str:
    return (
        "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
        + "\n\n[[ ## completed ## ]]"
    )


def as_json(**changes: object) -> str:
    value = {"n": 3, "ratio": 0.5, "is_it": True, "mood": "glad", "words": ["a", "b"], "note": "x"}
    return json.dumps({**value, "person": {"name": "Ada", "age": 36}, **changes})


def repl(code: str) -> str:
    return chat({"reasoning": "so", "code": code})


XML = """<n>3</n><ratio>0.5</ratio><is_it>True</is_it><mood>glad</mood>
<words><item>a</item><item>b</item></words>
<person><name>Ada</name><age>36</age></person><note>x</note>"""
CASES = {
    "qa chat": ("qa", "chat", [chat({"answer": "Paris"})]),
    "qa text around": ("qa", "chat", ["Sure!\n" + chat({"answer": "Paris"}) + "\nbye"]),
    "qa first wins": ("qa", "chat", ["[[ ## answer ## ]]\none\n\n[[ ## answer ## ]]\ntwo"]),
    "qa unknown header": ("qa", "chat", [chat({"mood": "glad", "answer": "Paris"})]),
    "qa not completed": ("qa", "chat", ["[[ ## answer ## ]]\nParis"]),
    "qa several lines": ("qa", "chat", [chat({"answer": "one\n\ntwo [[ three ]]"})]),
    "qa falls back": ("qa", "chat", ["It is Paris.", '{"answer": "Paris"}']),
    "qa json": ("qa", "json", ['{"answer": "Paris"}']),
    "qa json in text": ("qa", "json", ['Here: {"answer": "Paris", "unknown": 1} done']),
    "qa json fenced": ("qa", "json", ['```json\n{"answer": "Paris"}\n```']),
    "qa json broken": ("qa", "json", ['{"answer": "Paris"']),
    "qa json none": ("qa", "json", ["no idea"]),
    "typed chat": ("typed", "chat", [chat(FIELDS)]),
    "typed chat no note": (
        "typed",
        "chat",
        [chat({k: v for k, v in FIELDS.items() if k != "note"})],
    ),
    "typed json": ("typed", "json", [as_json()]),
    "typed json null": ("typed", "json", [as_json(note=None)]),
    "cot chat": ("cot", "chat", [chat({"reasoning": "because", "answer": "Paris"})]),
    "react chat": (
        "react",
        "chat",
        [
            chat(
                {
                    "next_thought": "look",
                    "next_tool_name": "lookup",
                    "next_tool_args": '{"city": "Paris"}',
                }
            ),
            chat({"next_thought": "done", "next_tool_name": "finish", "next_tool_args": "{}"}),
            chat({"reasoning": "so", "degrees": "21"}),
        ],
    ),
    "qa xml": ("qa", "xml", ["Sure: <answer>\nParis &amp; Rome\n</answer>"]),
    "qa xml falls back": ("qa", "xml", ["It is Paris.", '{"answer": "Paris"}']),
    "cot xml": ("cot", "xml", ["<reasoning>because</reasoning>\n\n<answer>Paris</answer>"]),
    "typed xml": ("typed", "xml", [XML]),
    "typed xml, json inside": (
        "typed",
        "xml",
        ["".join(f"<{name}>{value}</{name}>" for name, value in FIELDS.items())],
    ),
    "cot json": ("cot", "json", ['{"reasoning": "because", "answer": "Paris"}']),
    "best of three": ("best", "chat", [chat({"answer": text}) for text in ("a", "ab", "c")]),
    "best at once": ("best", "chat", [chat({"answer": text}) for text in ("abcd", "ab", "c")]),
    "best stops": ("best", "chat", [chat({"answer": text}) for text in ("a", "abc", "abcd")]),
    "best after a failure": (
        "best",
        "json",
        ["nothing", *(f'{{"answer": "{text}"}}' for text in ("ab", "c"))],
    ),
    "refine": (
        "refine",
        "chat",
        [
            chat({"answer": "a"}),
            chat({"discussion": "short", "advice": '{"self": "write more"}'}),
            chat({"answer": "ab"}),
        ],
    ),
    "compare": ("compare", "chat", [chat({"rationale": "both", "answer": "two"})]),
    "majority": ("majority", "chat", [chat({"answer": text}) for text in ("Rome", "Oslo", "oslo")]),
    "majority, tie": ("majority", "chat", [chat({"answer": text}) for text in ("b", "a", "c")]),
    "many rows": ("many", "chat", [chat({"answer": text}) for text in ("one", "two")]),
    "nearest demonstrations": ("nearest", "chat", [chat({"answer": "yes"})]),
    "thought submits": (
        "thought",
        "chat",
        [
            chat({"reasoning": "add", "generated_code": "```python\nSUBMIT({'total': 6})\n```"}),
            chat({"reasoning": "read", "total": "6"}),
        ],
    ),
    "thought fails, then computes": (
        "thought",
        "chat",
        [
            chat({"reasoning": "add", "generated_code": "total = 1 / 0"}),
            chat({"reasoning": "mend", "generated_code": "total = 1 + 2 + 3"}),
            chat({"reasoning": "read", "total": "6"}),
        ],
    ),
    "code with tools": (
        "code",
        "chat",
        [
            chat({"generated_code": "```python\na = degrees('Paris')\n```", "finished": "False"}),
            chat({"generated_code": "print(a + degrees('Rome'))", "finished": "True"}),
            chat({"reasoning": "sum", "total": "46"}),
        ],
    ),
    "code that fails cannot be the last": (
        "code",
        "chat",
        [
            chat({"generated_code": "print(degrees('Oslo'))", "finished": "False"}),
            chat({"generated_code": "print(degrees('Rome'))", "finished": "True"}),
            chat({"reasoning": "so", "total": "25"}),
        ],
    ),
    "rlm asks about a part": (
        "rlm",
        "chat",
        [
            repl("part = llm_query('what? ' + text)\nprint(part)"),
            "low",
            repl("SUBMIT(n=len(text), label=part)"),
        ],
    ),
    "rlm submits in order": ("rlm", "chat", [repl("```python\nSUBMIT(3, 'low')\n```")]),
    "rlm submits once": (
        "rlm",
        "chat",
        [repl("if text:\n    SUBMIT(3, 'low')\nSUBMIT(4, 'high')")],
    ),
    "rlm submits what does not fit": (
        "rlm",
        "chat",
        [repl("SUBMIT('many', 'low')"), repl("SUBMIT(n=3, label='low')")],
    ),
    "rlm submits too little": (
        "rlm",
        "chat",
        [repl("SUBMIT({'n': 3})"), repl("SUBMIT({'label': 'low', 'n': 3})")],
    ),
    "rlm uses up its turns": (
        "rlm",
        "chat",
        [
            repl("print(text)"),
            repl("print(1 / 0)"),
            chat({"reasoning": "so", "n": "3", "label": "low"}),
        ],
    ),
}
POOL = [
    {"question": text, "answer": text.upper()} for text in ("aaab", "abbb", "bbbb", "aabb", "cccc")
]
INPUTS: dict[str, dict[str, object]] = {
    "typed": {"text": "t"},
    "many": {"rows": [{"question": "a"}, {"question": "b"}]},
    "nearest": {"question": "abbbb"},
    "thought": {"numbers": [1, 2, 3]},
    "rlm": {"text": "abc"},
}


@pytest.fixture(scope="module")
def theirs() -> dict:
    process = subprocess.run(
        [PYTHON, str(PEER)],
        input=json.dumps({name: [*case, INPUTS.get(case[0])] for name, case in CASES.items()}),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def answer_length(_inputs: object, prediction: Prediction) -> float:
    return float(len(prediction.answer))


def degrees(city: str) -> int:
    """Look up the degrees of a city."""
    return {"Paris": 21, "Rome": 25}[city]


class Letters:
    """Embeds texts by the letters after the name of the field."""

    name, dimensions, fingerprint = "letters", 3, "letters"

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        counts = [[text.rpartition(": ")[2].count(letter) for letter in "abc"] for text in texts]
        vectors = numpy.array(counts, dtype=numpy.float32)
        lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors=vectors / lengths, usage=Usage(), model="letters")

    async def aclose(self) -> None:
        pass


def ours(module: str, adapter: str, replies: list[str]) -> object:
    program: Module = {
        "qa": lambda: Predict("question -> answer", adapter=adapter),
        "typed": lambda: Predict(Typed, adapter=adapter),
        "cot": lambda: ChainOfThought("question -> answer", adapter=adapter),
        "react": lambda: ReAct("question -> degrees: int", [lookup]),
        "best": lambda: BestOfN(
            Predict("question -> answer", adapter=adapter), n=3, reward=answer_length, threshold=3
        ),
        "refine": lambda: Refine(
            Predict("question -> answer", adapter=adapter), n=2, reward=answer_length, threshold=3
        ),
        "compare": lambda: MultiChainComparison("question -> answer", n=2),
        "majority": lambda: Majority(Predict("question -> answer"), n=3),
        "many": lambda: Parallel(Predict("question -> answer"), concurrency=1),
        "nearest": lambda: Predict("question -> answer", demos=POOL, nearest=2, embedder=Letters()),
        "thought": lambda: ProgramOfThought("numbers: list[int] -> total: int"),
        "code": lambda: CodeAct("question -> total: int", [degrees]),
        "rlm": lambda: RLM("text -> n: int, label", max_iters=2),
    }[module]()
    inputs = INPUTS.get(module, {"question": "q"})
    if module == "compare":
        completions = [{"reasoning": f"because {text}", "answer": text} for text in ("one", "two")]
        inputs = {**inputs, "completions": completions}
    try:
        prediction = program(RunContext(model=ScriptedModel(*replies)), **inputs)
    except AdapterError:
        return "error"
    outputs: dict[str, Any] = dict(prediction)
    if module == "nearest":
        span = next(span for span in prediction.trace.spans if span.kind == "retrieval")
        places: Any = span.attributes["demonstrations"]
        outputs["demos"] = [POOL[place]["question"] for place in places]
    if module == "many":
        outputs = {"results": [dict(result) for result in outputs["results"]]}
    outputs.pop("trajectory", None)  # each has its own form
    return {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in outputs.items()}


@pytest.mark.parametrize("case", CASES)
def test_both_read_the_same_out_of_the_same_replies(theirs, case):
    assert ours(*CASES[case]) == theirs["outputs"][case]


def lookup(city: str) -> str:
    """Look up the weather of a city."""
    return f"{city}: 21 degrees"


class Both(Module):
    def __init__(self):
        self.cot = ChainOfThought("question -> answer")
        self.preds = [Predict("a_thing, b -> c")]
        self.d = {"k": Predict("x -> y")}
        self.agent = ReAct("question -> degrees: int", [lookup])


def test_a_state_that_dspy_saved_comes_back_as_it_was(theirs):
    module = Both()
    from_dspy_state(module, theirs["state"])
    assert module.preds[0].demos == [{"a_thing": "1", "b": "2", "c": "3"}]
    assert module.agent.react.demos[0]["next_tool_args"] == {"city": "Rome"}
    assert module.agent.extract.predict.demos[0]["degrees"] == 30
    assert module.cot.predict.settings["top_p"] == 0.5
    assert "sk-secret" not in json.dumps(theirs["state"])
    again = to_dspy_state(module)
    assert {k: v for k, v in again.items() if k != "metadata"} == {
        k: v for k, v in theirs["state"].items() if k != "metadata"
    }


def test_a_state_that_dspex_wrote_is_loaded_by_dspy(theirs):
    module = Both()
    module.cot.predict.signature = module.cot.predict.signature.with_instructions("Be brief.")
    module.preds[0].demos = [{"a_thing": "1", "b": "2", "c": "3"}]
    step = {
        "question": "q",
        "trajectory": "",
        "next_thought": "t",
        "next_tool_name": "lookup",
        "next_tool_args": {},
    }
    module.agent.react.demos = [step]
    module.agent.react.signature = module.agent.react.signature.with_instructions("Find out.")
    process = subprocess.run(
        [PYTHON, str(PEER), "load"],
        input=json.dumps(to_dspy_state(module)),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["cot.predict"]["signature"]["instructions"] == "Be brief."
    assert result["preds[0]"]["demos"] == [{"a_thing": "1", "b": "2", "c": "3"}]
    assert result["agent.react"]["demos"] == [step]
    assert result["agent.react"]["signature"]["instructions"] == "Find out."
