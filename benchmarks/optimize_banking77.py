"""Optimizers of dspex and dspy on six banking77 intents with the small local model.

This is `optimize.py --banking77`.

Each search has at most 300 model calls and sees 60 training rows; its outcome is scored once on 60
test rows. dspy runs in a separate process and reaches the same model through a server in this one,
so both use the same weights and sampling. Its searches are configured to end within 300 calls,
which the server counts. The model answers one call at a time; set DSPEX_THREADS=1
on a machine that does other work.

    python benchmarks/optimize_banking77.py dspy    # dspy's side: reads one JSON command per line
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterable
from statistics import fmean
from typing import Any, Literal

import msgspec
from banking77 import INTENTS, rows
from banking77 import SHARED as SHARED  # `optimize.py` asks for it

TASK = "Say which intent a customer of a bank has."
CALLS, SCORED, FEW = 300, 20, 6
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"type": "string", "enum": list(INTENTS)}},
    "required": ["intent"],
    "additionalProperties": False,
}
OURS, THEIRS = ("joint", "mipro", "bootstrap"), ("mipro", "bootstrap")


class Peer:
    """What runs where dspy is."""

    def __init__(self, url: str) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import warnings

        warnings.simplefilter("ignore")
        import dspy

        self.dspy, self.url = dspy, url
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)

        class Intent(dspy.Signature):
            __doc__ = TASK
            text: str = dspy.InputField()
            intent: Literal[INTENTS] = dspy.OutputField()

        self.signature = Intent

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        dspy = self.dspy
        train = [dspy.Example(**row).with_inputs("text") for row in command["train"]]
        lm = dspy.LM(
            f"openai/{command['model']}",
            api_base=self.url,
            api_key="none",
            temperature=0.0,
            max_tokens=200,
            num_retries=0,
        )
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            best = self.compile_program(
                command["work"], dspy.Predict(self.signature), train, seed=command["seed"]
            )
        return {
            "instructions": best.signature.instructions,
            "demos": [dict(demo) for demo in best.demos],
        }

    def compile_program(self, work: str, student, train: list, *, seed: int):
        dspy = self.dspy

        def metric(example, prediction, trace=None):
            return example.intent == prediction.intent

        few = {"max_bootstrapped_demos": 4, "max_labeled_demos": FEW}
        if work == "bootstrap":
            return dspy.BootstrapFewShotWithRandomSearch(
                metric=metric, num_candidate_programs=5, num_threads=1, **few
            ).compile(student, trainset=train[SCORED:], valset=train[:SCORED])
        mipro = dspy.MIPROv2(
            metric=metric, auto=None, num_candidates=4, num_threads=1, seed=seed, **few
        )
        return mipro.compile(
            student,
            trainset=train[SCORED:],
            valset=train[:SCORED],
            num_trials=8,
            minibatch_size=10,
            minibatch_full_eval_steps=4,
            seed=seed,
        )


def serve_dspy() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep what dspy prints out of the answers
    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        peer = peer or Peer(command["url"])
        try:
            answer = peer.run(command)
        except Exception as error:  # noqa: BLE001  # a failed search is an outcome
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def shuffle_rows(split: str, seed: int):
    examples = rows(split, 10, seed)
    return examples.sample(len(examples), seed=seed)


def program():
    import dspex

    class Intent(dspex.Signature):
        __doc__ = TASK
        text: str
        intent: Literal[INTENTS] = dspex.Output()

    return dspex.Predict(Intent, temperature=0.0)


async def ours(work: str, train, *, seed: int, model) -> tuple[dict[str, Any], int]:
    import dspex
    from dspex.execution.clients import Budget

    few = dspex.BootstrapFewShot(max_bootstrapped=4, max_labelled=FEW)
    optimizer = {
        "joint": dspex.Joint(
            trials=40, cohort=6, first_rows=5, keep=2, instructions=3, sets=5, bootstrap=few
        ),
        "mipro": dspex.MIPROv2(
            trials=40, minibatch=10, full_every=4, instructions=4, sets=4, bootstrap=few
        ),
        "bootstrap": dspex.RandomSearch(bootstrap=few, candidates=20, first_rows=8),
    }[work]
    search = dspex.Search(
        seed=seed,
        insists=True,
        validation=train[:SCORED],
        budget=Budget(calls=CALLS),
        concurrency=1,
    )
    with dspex.context(model=model):
        outcome = await dspex.aoptimize(
            program(), optimizer, train=train[SCORED:], metric=dspex.exact_match, search=search
        )
    return dict(outcome.best.candidate.assignment), outcome.new_calls


class Constrained:
    """The model for dspy: it decodes intents under the same schema as for dspex.

    dspy requests JSON without a schema from a model that it does not know. Instructions that this
    small model proposes without a schema are rarely JSON, and then dspy's search ends. So texts are
    decoded as JSON of the requested fields.
    """

    def __init__(self, model) -> None:
        self.model, self.name, self.capabilities = model, model.name, model.capabilities

    async def complete(self, request):
        system = request.messages[0].text
        if request.response_schema is None:
            field_lists = re.findall(
                r"in the following order of fields: (.*)", request.messages[-1].text
            )
            names = re.findall(r"`(\w+)`", field_lists[-1]) if field_lists else []
            schema = SCHEMA if '"intent": "{intent}' in system else _texts(names) if names else None
            request = msgspec.structs.replace(request, response_schema=schema)
        return await self.model.complete(request)

    async def aclose(self) -> None:
        pass


def _texts(names: list[str]) -> dict[str, Any]:
    texts = {name: {"type": "string", "maxLength": 300} for name in names}
    return {"type": "object", "properties": texts, "required": names, "additionalProperties": False}


async def theirs(child, server, command: dict[str, Any], model) -> tuple[dict[str, Any], int]:
    server.models = {command["model"]: Constrained(model)}
    child.stdin.write(json.dumps({**command, "url": server.url}).encode() + b"\n")
    answer = await child.stdout.readline()
    if not answer:
        raise RuntimeError(f"dspy ended on {command['work']}, seed {command['seed']}")
    outcome = json.loads(answer)
    if "error" in outcome:
        print(
            f"  dspy's {command['work']} failed, its program stays as it is: {outcome['error']}",
            file=sys.stderr,
        )
        return {}, server.calls[command["model"]]
    demos = [{name: demo[name] for name in ("text", "intent")} for demo in outcome["demos"]]
    return {"self.instructions": outcome["instructions"], "self.demos": demos}, server.calls[
        command["model"]
    ]


async def measure(seeds: Iterable[int], model) -> dict[str, Any]:
    import dspex
    from dspex.testing.model_server import ModelServer

    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "dspy",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}, limit=1 << 20,
    )  # fmt: skip
    result: dict[str, Any] = {"seeds": list(seeds), "calls": CALLS, "rows": []}
    async with ModelServer({}) as server:
        for seed in seeds:
            train, test = shuffle_rows("train", seed), shuffle_rows("test", seed)
            duplicates = len(train.duplicates(test, fields=["text"]))
            for side, work in [
                ("program as it is", ""),
                *(("dspex", w) for w in OURS),
                *(("dspy", w) for w in THEIRS),
            ]:
                values, calls = {}, 0
                if side == "dspex":
                    values, calls = await ours(work, train, seed=seed, model=model)
                elif side == "dspy":
                    command = {"work": work, "model": f"{work}-{seed}", "seed": seed}
                    command["train"] = [row.to_dict() for row in train]
                    values, calls = await theirs(child, server, command, model)
                with dspex.context(model=model):
                    report = await dspex.aevaluate(
                        program().assign(values), test, dspex.exact_match, concurrency=1
                    )
                interval = report.interval()
                row = {
                    "seed": seed,
                    "side": side,
                    "work": work,
                    "accuracy": report.mean,
                    "calls": calls,
                }
                result["rows"].append(
                    {
                        **row,
                        "low": interval.low,
                        "high": interval.high,
                        "failed": report.failed,
                        "leaked": duplicates,
                    }
                )
                print(
                    f"  seed {seed} {side} {work}: {report.mean:.2f} {interval}, {calls} calls",
                    file=sys.stderr,
                )
    child.stdin.close()
    await child.wait()
    return result


def show(result: dict[str, Any]) -> None:
    from dspex.learning.evaluation import wilson

    print(
        f"banking77, six intents, at most {CALLS} calls, seeds {result['seeds']}, 60 test rows each"
    )
    for side, work in dict.fromkeys((row["side"], row["work"]) for row in result["rows"]):
        group = [row for row in result["rows"] if (row["side"], row["work"]) == (side, work)]
        right = round(sum(row["accuracy"] * (60 - row["failed"]) for row in group))
        scored = sum(60 - row["failed"] for row in group)
        print(
            f"  {side} {work}: {fmean(row['accuracy'] for row in group):.2f} "
            f"{wilson(right, scored)} over all rows; "
            f"by seed {[round(row['accuracy'], 2) for row in group]}; calls "
            f"{[row['calls'] for row in group]}"
        )


if __name__ == "__main__":
    serve_dspy()
