"""Native GEPA and SIMBA against those of dspy, on one simulated model that reflects.

A part of benchmarks/optimize.py.

The model answers numbered questions, and writes instructions and rules when it is asked to reflect,
whoever asks: it reads the current instruction and the failed rows in the prompt. Above temperature
0 it answers equal requests differently. There are two kinds of surfaces, drawn at random, one for
each seed:

- "words" (`Surface.drawn`): words of the instruction and demonstrations help or harm. A reflection
  writes one of eight sentences, after the current instruction or instead of it.
- "rules" (`Rules`): rows are of six kinds, and each kind has a rule that makes most of its rows
  right. A reflection reads which rows failed, and writes the rule of one of their kinds or, as
  often, one that harms. Demonstrations are switched off on both sides.

dspy runs first, in a separate process. The server counts its calls, those of reflections included,
and dspex gets the same number as its budget. Compared is the true accuracy of the outcome, which
the surface knows.

    python benchmarks/optimize_reflective.py dspy   (the other side: reads JSON commands)
"""

import asyncio
import json
import os
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import msgspec
from optimize_peer import rows

FIRST, MARGIN = 3000, -0.02
WORK = {"gepa words": 60, "gepa rules": 20, "simba words": 60, "simba rules": 20}  # seeds
QUICK = dict.fromkeys(WORK, 1)
TRAIN, VALIDATION = range(30), range(30, 60)
GEPA_RUNS = 300
BATCH, CANDIDATES, STEPS = 16, 4, 4
KINDS = 6
_QUESTION = re.compile(r"question (\d+)")
_REFLECTION = re.compile(r"\[\[ ## (instruction|rule|module_advice) ## \]\]|\"(new_instruction)\"")
_NAMES = re.compile(r"\[\[ ## module_names ## \]\]\n(\[.*?\])", re.DOTALL)
_CURRENT = re.compile(r"\[\[ ## current_instruction ## \]\]\n(.*?)\n\n\[\[ ##", re.DOTALL)


@dataclass(frozen=True)
class Rules:
    """Rows of six kinds: the chance of a right answer without and with the rule of the kind."""

    base: tuple[float, ...]
    harm: float

    @classmethod
    def drawn(cls, seed: int) -> "Rules":
        rng = random.Random(f"{seed}/rules")
        return cls(tuple(rng.uniform(0.1, 0.5) for _ in range(KINDS)), rng.uniform(0.03, 0.1))

    def chance(self, number: int, system: str) -> float:
        kind = number % KINDS
        harm = self.harm * sum(f"Habit {n} " in system for n in range(KINDS))
        return max(0.0, (0.9 if f"Rule {kind} " in system else self.base[kind]) - harm)

    def accuracy(self, system: str) -> float:
        return fmean(self.chance(kind, system) for kind in range(KINDS))

    def propose(self, text: str, rng: random.Random) -> str:
        """Return a rule for the kind of a failed row, or a habit that harms."""
        parts = _QUESTION.split(text)[1:]
        failed = [
            int(number)
            for number, rest in zip(parts[::2], parts[1::2], strict=True)
            if "unknown" in rest
        ]
        if rng.random() < 0.5 or not failed:
            return f"Habit {rng.randrange(KINDS)} is worth keeping."
        return f"Rule {rng.choice(failed) % KINDS} is for rows of its kind."


class ReflectingModel:
    """Answers by its surface, and writes instructions or advice if the prompt asks for them."""

    def __init__(self, kind: str, seed: int) -> None:
        from dspex.testing import SimulatedModel, Surface

        self.name, self.capabilities = "reflecting", frozenset()
        self.rules = Rules.drawn(seed) if kind == "rules" else None
        self._plain = SimulatedModel(Surface.drawn(seed), seed=seed)
        self._seed = seed
        self._counts: Counter[bytes] = Counter()

    async def complete(self, request):
        from dspex.execution.clients import Response

        if request.temperature:
            key = msgspec.json.encode([[(m.role, m.text) for m in request.messages], request.seed])
            self._counts[key] += 1
            request = msgspec.structs.replace(request, seed=self._counts[key])
        plain = await self._plain.complete(request)
        prompt = "\n".join(message.text for message in request.messages)
        rng = random.Random(repr((self._seed, prompt, request.temperature, request.seed)))
        asked = _REFLECTION.search(request.messages[0].text)
        if asked:
            text = self._reflect(asked[1] or asked[2], request, rng)
        elif self.rules is not None:
            number = int(_QUESTION.findall(request.messages[-1].text)[-1])
            chance = self.rules.chance(number, request.messages[0].text)
            answer = number if rng.random() < chance else "unknown"
            text = f"[[ ## answer ## ]]\nanswer {answer}\n\n[[ ## completed ## ]]"
        else:
            text = plain.text
        return Response(text=text, usage=plain.usage, model=self.name, finish_reason="stop")

    def _reflect(self, field: str, request, rng: random.Random) -> str:
        from dspex.testing.simulated import PROPOSALS

        last = request.messages[-1].text
        rule = rng.choice(PROPOSALS) if self.rules is None else self.rules.propose(last, rng)
        if field == "module_advice":
            names = json.loads(_NAMES.search(last)[1])
            advice = json.dumps(dict.fromkeys(names, rule))
            return (
                f"[[ ## discussion ## ]]\nsome\n\n[[ ## module_advice ## ]]\n{advice}\n\n"
                "[[ ## completed ## ]]"
            )
        current = _CURRENT.search(last)
        keeps = current and (self.rules is not None or rng.random() < 0.5)
        text = f"{current[1]} {rule}" if keeps else rule
        if field == "new_instruction":
            return json.dumps({field: text})
        return f"[[ ## {field} ## ]]\n{text}\n\n[[ ## completed ## ]]"

    async def aclose(self) -> None:
        pass


class Peer:
    """What runs where dspy is."""

    def __init__(self, url: str) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import logging
        import warnings

        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        import dspy

        self.dspy, self.url = dspy, url
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)

    def run(self, work: str, model: str, seed: int) -> dict[str, Any]:
        dspy = self.dspy
        train, check = (
            [dspy.Example(**row).with_inputs("question") for row in rows(part)]
            for part in (TRAIN, VALIDATION)
        )
        settings = {"api_base": self.url, "api_key": "none", "max_tokens": 1000}
        lm = dspy.LM(f"openai/{model}", temperature=0.0, **settings)
        optimizer, kind = work.split()
        student = dspy.Predict("question -> answer")
        with dspy.context(lm=lm):
            if optimizer == "gepa":
                reflection = dspy.LM(f"openai/{model}", temperature=1.0, **settings)
                search = dspy.GEPA(
                    metric=self._score, max_metric_calls=GEPA_RUNS, reflection_lm=reflection,
                    num_threads=2, seed=seed,
                )  # fmt: skip
                best = search.compile(student, trainset=train, valset=check)
            else:
                search = dspy.SIMBA(
                    metric=lambda row, result: float(row.answer == result["answer"]),
                    bsize=BATCH, num_candidates=CANDIDATES, max_steps=STEPS, num_threads=2,
                    max_demos=0 if kind == "rules" else 4,
                )  # fmt: skip
                best = search.compile(student, trainset=[*train, *check], seed=seed)
        return {
            "instructions": best.signature.instructions,
            "demos": [[demo["question"], demo["answer"]] for demo in best.demos],
        }

    def _score(self, row, result, trace=None, pred_name=None, pred_trace=None):
        is_right = row.answer == result.answer
        feedback = "right" if is_right else f"wrong, the answer is {row.answer}"
        return self.dspy.Prediction(score=float(is_right), feedback=feedback)


def serve_dspy() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep what dspy prints out of the answers
    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        peer = peer or Peer(command["url"])
        out.write(json.dumps(peer.run(command["work"], command["model"], command["seed"])) + "\n")
        out.flush()


async def ours(work: str, *, calls: int, seed: int) -> dict[str, Any]:
    """Run the same task on dspex with at most `calls` calls."""
    import dspex
    from dspex.execution.clients import Budget

    optimizer, kind = work.split()
    demonstrations = 0 if kind == "rules" else 4
    train, check = [*TRAIN, *VALIDATION], None
    recipe: dspex.optimizers.Optimizer
    if optimizer == "gepa":
        train, check = list(TRAIN), dspex.Dataset.from_rows(rows(VALIDATION))
        recipe = dspex.optimizers.GEPA(proposals=150, demonstrations=demonstrations)
    else:
        recipe = dspex.optimizers.SIMBA(
            steps=20, minibatch=BATCH, candidates=CANDIDATES, demonstrations=demonstrations
        )
    with dspex.context(model=ReflectingModel(kind, seed)):
        outcome = await dspex.aoptimize(
            dspex.Predict("question -> answer", temperature=0.0),
            recipe,
            train=dspex.Dataset.from_rows(rows(train)),
            metric=dspex.exact_match,
            search=dspex.Search(
                seed=seed, insists=True, validation=check, budget=Budget(calls=calls),
                concurrency=4,
            ),
        )  # fmt: skip
    best = outcome.program
    return {
        "instructions": best.signature.instructions,
        "demos": [[demo["question"], demo["answer"]] for demo in best.demos],
        "calls": outcome.new_calls,
    }


def true_accuracy(work: str, seed: int, outcome: dict[str, Any]) -> float:
    from dspex.testing import Surface

    system = outcome["instructions"]
    if work.endswith("rules"):
        return Rules.drawn(seed).accuracy(system)
    demos = [(int(q.split()[1]), a == q.replace("question", "answer")) for q, a in outcome["demos"]]
    return Surface.drawn(seed).probability(system, demos, 0.0)


async def compare(child, server, work: str, seed: int) -> dict[str, float]:
    name = f"{work}-{seed}".replace(" ", "-")
    server.models[name] = ReflectingModel(work.split()[1], seed)
    command = {"url": server.url, "work": work, "model": name, "seed": seed}
    child.stdin.write(json.dumps(command).encode() + b"\n")
    answer = await child.stdout.readline()
    if not answer:
        raise RuntimeError(f"dspy ended on {work}, seed {seed}")
    theirs, calls = json.loads(answer), server.calls[name]
    mine = await ours(work, calls=calls, seed=seed)
    plain = {
        "instructions": "Given the fields `question`, produce the fields `answer`.",
        "demos": [],
    }
    return {
        "ours": true_accuracy(work, seed, mine),
        "theirs": true_accuracy(work, seed, theirs),
        "as it is": true_accuracy(work, seed, plain),
        "our calls": mine["calls"],
        "their calls": calls,
    }


async def measure(seeds: dict[str, int]) -> dict[str, Any]:
    from dspex.learning.evaluation import bootstrap
    from dspex.testing.model_server import ModelServer

    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "dspy",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    result: dict[str, Any] = {"first seed": FIRST}
    async with ModelServer({}) as server:
        for work, count in seeds.items():
            pairs = [
                await compare(child, server, work, seed) for seed in range(FIRST, FIRST + count)
            ]
            gains = [pair["ours"] - pair["theirs"] for pair in pairs]
            interval = bootstrap(gains)
            result[work] = {name: fmean(pair[name] for pair in pairs) for name in pairs[0]} | {
                "seeds": count,
                "better than as it is": sum(pair["ours"] > pair["as it is"] for pair in pairs),
                "difference": fmean(gains),
                "low": interval.low,
                "high": interval.high,
                "all": gains,
            }
    child.stdin.close()
    await child.wait()
    return result


if __name__ == "__main__":
    serve_dspy()
