"""A process of jobs whose code does what the first metric of the job names.

`python child.py CHANNEL DATABASE`.
"""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from dspex.bootstrap import new_id
from dspex.clock import SystemClock
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.evaluations.records import EvaluationRecord
from dspex.operations.jobs import Done, JobChild, JobPolicy, JobRows, JobRun, JobRunner
from dspex.operations.storage import Database, SQLStore

EVALUATION = DOMAIN["evaluation"]


def compute() -> None:
    re.match(r"(a|aa)+$", "a" * 60 + "b")  # holds the interpreter's lock for longer than any test


def spin() -> None:
    while True:
        pass


async def close() -> None:
    os.closerange(3, 4096)
    await asyncio.Event().wait()


async def deaf() -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


ACTS: dict[str, Callable[[], Any]] = {
    "quick": lambda: None,
    "compute": compute,
    "spin": spin,
    "exit": lambda: os._exit(3),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "close": close,
    "deaf": deaf,
    "wait": lambda: asyncio.Event().wait(),
}


async def handle(run: JobRun, store: SQLStore) -> Done:
    assert isinstance(run.job, EvaluationRecord)
    run.report("at work", pid=os.getpid())
    while (row := await store.get(EVALUATION, id=run.job.id)) is None or "pid" not in row.progress:
        await SystemClock().sleep(0.01)
    result = ACTS[run.job.metrics[0]]()
    if isinstance(result, Coroutine):
        await result
    return Done(values={"mean": 1.0})


async def main() -> None:
    database = Database.embedded(Path(sys.argv[2]))
    policy = JobPolicy(queues=QUEUES, attempts=3, backoff=0.01, poll=0.02)

    def make_runner(worker: str) -> JobRunner:
        store = SQLStore(database, DOMAIN)
        handlers = {"evaluation": lambda run: handle(run, store)}
        rows = JobRows(store, policy=policy, clock=SystemClock(), new_id=new_id, worker=worker)
        return JobRunner(rows, handlers=handlers, policy=policy)

    try:
        await JobChild(make_runner, beat=0.05).serve(socket.socket(fileno=int(sys.argv[1])))
    finally:
        await database.aclose()


if __name__ == "__main__":
    asyncio.run(main())
