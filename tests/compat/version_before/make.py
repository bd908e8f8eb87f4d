"""Makes the files of tests/stored with the dspex that is installed: python make.py FOLDER."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import dspex
from dspex.testing import SimulatedModel
from dspex.testing.model_server import ModelServer

ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(20)]
FOLDER = Path(sys.argv[1]).resolve()
DSPEX = Path(sys.executable).with_name("dspex")


class Gated(SimulatedModel):
    """Answers `left` requests, then only after `open` is set."""

    left = 1000

    async def complete(self, request):
        self.left -= 1
        while self.left < 0:
            await asyncio.sleep(0.05)
        return await super().complete(request)


def cli(*arguments: str) -> str:
    return subprocess.run(
        [DSPEX, *arguments], cwd=FOLDER, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


async def stored(model: Gated) -> None:
    async with ModelServer({"m": model}) as server:

        async def call(*arguments: str) -> str:
            return await asyncio.to_thread(cli, *arguments)

        options = ("--model", f"{server.url}#m")
        (FOLDER / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        await call("dataset", "add", "questions", "rows.jsonl")
        create = ["name=qa", "signature=question -> answer: str", "backend=native"]
        await call("do", "create_program", *create)
        await call("run", "qa", "question=question 1", *options)
        await call("run", "app.py:triage", "question=question 2", *options)
        settings = [
            "program=qa",
            "dataset=questions",
            'metrics=["exact_match"]',
            'configuration={"concurrency": 1}',
        ]
        await call("do", "create_evaluation", *settings)
        await call("worker", "--until-idle", *options)
        model.left = 8
        job = json.loads(await call("do", "create_evaluation", *settings))
        worker = subprocess.Popen([DSPEX, "worker", *options], cwd=FOLDER)
        while model.left >= 0:
            await asyncio.sleep(0.1)
        await call("job", job["id"], "--pause")
        while json.loads(await call("job", job["id"], "--json"))["status"] != "paused":
            await asyncio.sleep(0.2)
        worker.terminate()
        await asyncio.to_thread(worker.wait)
        await call("do", "create_evaluation", *settings)  # stays queued


def searched() -> None:
    train, test = dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(60)]
    ).split(40, seed=0)
    program = dspex.Predict("question -> answer").with_variables(
        dspex.Text("Answer.", options=("Answer.", "Be careful."), name="self.instructions"),
        dspex.Float(0, 1.5, name="self.temperature"),
    )
    search = dspex.Search(
        test=test, journal=dspex.optimizers.JsonlJournal(FOLDER / "journal.jsonl")
    )
    optimizer = dspex.Joint(trials=8, cohort=4, first_rows=8, instructions=1, sets=2)
    with dspex.context(model=SimulatedModel(seed=1)):
        outcome = dspex.optimize(
            program, optimizer, train=train, metric=dspex.exact_match, search=search
        )
    outcome.program.save(FOLDER / "best.json")
    (FOLDER / "expected.json").write_text(
        json.dumps({"verdict": str(outcome.verdict), "changes": str(outcome.changes())})
    )


FOLDER.mkdir(exist_ok=True)
shutil.copy(Path(__file__).with_name("app.py"), FOLDER / "app.py")
asyncio.run(stored(Gated()))
searched()
