"""Typical dspy programs, imported without a signature, behave as on plain dspy."""

import asyncio
import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest

from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.context import RunContext
from dspex.execution.workers import PoolConfig
from dspex.testing import ScriptedModel

PROGRAMS = Path(__file__).parent / "programs"
POOL = PoolConfig(name="dspy", minimum=1, maximum=1)
QUESTION = {"question": "What is the capital of France?"}
ATTEMPTS = [{"reasoning": f"thought {n}", "answer": "Paris"} for n in range(2)]
# program, inputs, and the contract: inputs (those in brackets may be left out) and outputs that are
# always there
CASES = [
    ("bare_predict", QUESTION, "question -> answer"),
    ("bare_list", {**QUESTION, "context": ["a", "b"]}, "context, question -> answer"),
    ("bare_list", {**QUESTION, "context": {"a": [1]}}, "context, question -> answer"),
    ("bare_thought", QUESTION, "question -> reasoning, answer"),
    ("bare_react", QUESTION, "question -> answer"),
    ("best", QUESTION, "question -> reasoning, answer"),
    ("Rag", QUESTION, "question, [k] -> context, answer"),
    ("Rag", {**QUESTION, "k": 1}, "question, [k] -> context, answer"),
    ("OtherOrder", QUESTION, "question -> answer"),
    ("OtherNames", QUESTION, "question -> response"),
    ("AnswerAlone", QUESTION, "question -> answer"),
    ("Defaults", {"topic": "2024"}, "topic, [style], [words], [seen] -> text"),
    (
        "Defaults",
        {"topic": "t", "words": 3, "seen": ["a", "b"]},
        "topic, [style], [words], [seen] -> text",
    ),
    ("ImplicitNone", QUESTION, "question, [notes] -> answer"),
    (
        "Untyped",
        {"documents": ["a", "b"], "settings": {"language": "fr"}},
        "documents, settings -> summary, size, language",
    ),
    ("Inner", QUESTION, "question -> query, passages"),
    ("Nested", QUESTION, "question -> answer, query, passages"),
    ("Delegating", QUESTION, "question -> answer, query, passages"),
    ("KeywordsRead", QUESTION, "[hint], question -> answer"),
    ("Async", QUESTION, "question -> answer, query"),
    ("Both", QUESTION, "question -> answer"),
    ("Agent", QUESTION, "question -> answer, trajectory, done"),
    ("Fan", {"questions": ["a", "b", "c"]}, "questions -> answers, count"),
    ("Refined", QUESTION, "question -> answer"),
    ("Models", {"text": "Paris is big."}, "text -> city, boxes, total"),
    (
        "ModelInput",
        {"city": {"name": "Rome", "size": 2}, "wanted": {"language": "it"}},
        "city, wanted, [level], [pair] -> story, shown",
    ),
    ("Hops", QUESTION, "question -> context, answer"),
    ("Chain", {"text": "t"}, "text -> text2"),
    ("Routed", QUESTION, "question -> answer"),
    ("Majority", QUESTION, "question -> reasoning, answer"),
    ("Compared", QUESTION, "question -> rationale, answer"),
    (
        "comparison",
        {**QUESTION, "completions": ATTEMPTS},
        "completions, question -> rationale, answer",
    ),
    ("Branches", {"message": "m"}, "message -> label"),
    ("Helpers", QUESTION, "question -> answer, confidence"),
    ("Child", QUESTION, "question, [k] -> context, answer, passages"),
    ("FunctionBeside", QUESTION, "question -> answer"),
    ("Changed", QUESTION, "question -> answer, count, sources"),
    ("Splat", QUESTION, "question -> kind, answer, stars"),
    ("Candidates", QUESTION, "question, [n] -> answer, confidence"),
    ("Loop", QUESTION, "question, [limit] -> notes, rounds"),
    ("MadeInside", QUESTION, "question -> reasoning, answer, stars"),
    ("Decorated", QUESTION, "question, [tone] -> answer"),
    ("Unreadable", QUESTION, "question, [how] -> [answer]"),
    ("Copied", QUESTION, "question -> answer"),
    ("ReservedNames", {"remove": "f"}, "remove, [name] -> answer"),
    ("Talk", QUESTION, "question, [history] -> answer"),
    ("Fallback", QUESTION, "question -> answer, reasoning"),
    ("ExampleReturned", QUESTION, "question -> best, answers, scores"),
    ("Bounded", {"text": "t"}, "text, [picks] -> stars, seen"),
    ("DictReturned", QUESTION, "question -> kind, answer"),
    ("Again", QUESTION, "question, [depth] -> answer"),
    ("KeywordsBeside", QUESTION, "[k], question -> answer"),
    ("Gathered", QUESTION, "question -> answer, query"),
]


def script():
    spec = importlib.util.spec_from_file_location("script", PROGRAMS / "script.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_plain_dspy(interpreter):
    """Return the outcome of every case on dspy alone, from one process."""
    result = subprocess.run(
        [interpreter, "-W", "ignore", str(PROGRAMS / "plain.py")],
        input=json.dumps([[name, inputs] for name, inputs, _ in CASES]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


async def over_the_bridge(interpreter, reply):
    """Return the outcome of every case, imported without a signature.

    And the contract that was read.
    """
    outcomes = []
    config = DspyConfig(interpreter=interpreter, pool=POOL, paths=(str(PROGRAMS),))
    async with asyncio.timeout(120), DspyBackend(config) as bridge:
        for name, inputs, _ in CASES:
            prompts = []

            def answer(request, prompts=prompts):
                messages = [
                    {"role": item.role, "content": item.content} for item in request.messages
                ]
                prompts.append([messages, request.temperature])
                return reply(messages)

            program = await bridge.import_program(f"shapes:{name}")
            handle = await bridge.create_program(program)
            try:
                prediction = await bridge.execute_program(
                    handle, inputs, RunContext(model=ScriptedModel(answer))
                )
                outputs = json.loads(json.dumps(prediction.to_dict(), default=vars))
            except Exception as error:  # noqa: BLE001  # shown beside what plain dspy did
                outputs = f"{type(error).__name__}: {error}"
            outcomes.append(
                {"outputs": outputs, "asked": prompts, "contract": contract_text(program.signature)}
            )
    return outcomes


def contract_text(signature):
    def shown(fields):
        return ", ".join(
            field.wire_name if field.is_required else f"[{field.wire_name}]"
            for field in fields.values()
        )

    return f"{shown(signature.input_fields)} -> {shown(signature.output_fields)}"


@pytest.mark.full
async def test_programs_imported_without_a_signature_do_what_they_do_on_plain_dspy(interpreter):
    plain = on_plain_dspy(interpreter)
    ours = await over_the_bridge(interpreter, script().reply)
    differing = {}
    for (name, inputs, contract), expected, outcome in zip(CASES, plain, ours, strict=True):
        for part in (expected, outcome):
            part["asked"].sort(key=json.dumps)
        if outcome.pop("contract") != contract or outcome != expected:
            differing[name, json.dumps(inputs)] = (outcome, expected)
    assert not differing, json.dumps(
        {str(key): value for key, value in differing.items()}, indent=1
    )[:20000]
    assert len({name for name, _, _ in CASES}) >= 30
