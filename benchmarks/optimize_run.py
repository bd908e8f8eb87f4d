"""One search on a simulated model in a separate process.

benchmarks/optimize.py kills and resumes it.

    python benchmarks/optimize_run.py JOURNAL CALLS CONCURRENCY OPTIMIZER

OPTIMIZER is Joint, GEPA or SIMBA. Appends a line to CALLS when a call starts; prints the outcome as
JSON.
"""

import asyncio
import json
import os
import sys

import dspex
from dspex.execution.clients import Request, Response
from dspex.testing import SimulatedModel

ROWS = [{"question": f"question {number}", "answer": f"answer {number}"} for number in range(40)]


class Counted(SimulatedModel):
    """Records each call before it starts, and takes a moment, so that several overlap."""

    def __init__(self, path: str) -> None:
        super().__init__(seed=1)
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def complete(self, request: Request) -> Response:
        messages = [(message.role, message.text) for message in request.messages]
        os.write(
            self.file, (json.dumps([messages, request.temperature, request.seed]) + "\n").encode()
        )
        await asyncio.sleep(0.0005)
        return await super().complete(request)


def program() -> dspex.Module:
    instructions = (
        "Answer.",
        "Be careful.",
        "Be exact.",
        "Be careful and exact.",
        "Think step by step.",
    )
    return dspex.Predict("question -> answer").with_variables(
        dspex.Text(options=instructions, name="self.instructions", default=instructions[0]),
        dspex.Float(0, 1.5, name="self.temperature"),
    )


RECIPES = {
    "Joint": dspex.Joint(trials=140, cohort=10, first_rows=5, keep=3, instructions=1, sets=3),
    "GEPA": dspex.optimizers.GEPA(proposals=80),
    "SIMBA": dspex.optimizers.SIMBA(steps=8, minibatch=12, candidates=4),
}


async def main(journal: str, calls: str, concurrency: int, optimizer: str) -> None:
    with (
        dspex.optimizers.JsonlJournal(journal) as open_journal,
        dspex.context(model=Counted(calls)),
    ):
        outcome = await dspex.aoptimize(
            program(),
            RECIPES[optimizer],
            train=dspex.Dataset.from_rows(ROWS),
            metric=dspex.exact_match,
            search=dspex.Search(
                journal=open_journal, concurrency=concurrency, trials_at_once=2, seed=7
            ),
        )
    facts = {
        "program": outcome.program.to_program().content_hash,
        "best": outcome.best.number,
        "table": outcome.table(),
        "spent": outcome.spent.calls,
        "made": outcome.new_calls,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
