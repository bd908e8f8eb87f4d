"""What `dspex job show` prints about a job."""

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import new_id, open_services
from dspex.operations.evaluations.records import EVALUATION
from dspex.operations.framework.store import Insert, Update
from dspex.operations.jobs.worker_registry import new_worker_row
from dspex.operations.optimizations.records import OptimizationJobRecord
from dspex.operations.optimizations.results import trial_rows
from dspex.settings import Settings
from tests.operations.jobs.rows import a_job
from tests.surfaces.cli.test_commands import call

FRAMES = [{"file": "app.py", "line": 12, "function": "shout", "code": "return RATES[text]"}]
BEST = {
    "trial": 1,
    "label": "temperature=0.4",
    "changes": "self.temperature:\n  -0\n  +0.4",
    "conclusion": "significantly better on 9 held-out rows",
    "warnings": ["20 rows are few"],
    "front": [{"trial": 1, "exact_match": 0.91234, "usd": None, "label": "temperature=0.4"}],
}
TRIALS = [("the program as it is", 0.5), ("temperature=0.4", 0.91234)]
TRIAL_COLUMNS = {
    "rows": 20,
    "failed": 0,
    "calls": 20,
    "is_final": True,
    "is_on_front": False,
    "figures": {},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _store(folder: Path, *, is_optimization: bool = False, **values: Any) -> str:
    """Store a job and return its id."""

    async def store() -> str:
        settings = Settings(state_dir=folder / ".dspex", cache_dir=folder / "cache")
        async with open_services(settings) as services:
            rows = services.operations.dependencies.store
            job = await a_job(rows)
            if not is_optimization:
                await rows.write(Update(resource=EVALUATION, id=job.id, values=values))
                return str(job.id)
            columns = {part.name for part in dataclasses.fields(OptimizationJobRecord)}
            shared = {name: getattr(job, name) for name in columns if hasattr(job, name)}
            search = OptimizationJobRecord(
                **{**shared, "optimizer": "Joint", "budget": {}, **values, "id": new_id()}
            )
            await rows.write(Insert(search))
            trials = [
                {**TRIAL_COLUMNS, "number": number, "label": label, "score": score}
                for number, (label, score) in enumerate(TRIALS)
            ]
            now = search.created_at
            await rows.write(*trial_rows(search, trials, new_id=new_id, now=now))
            return str(search.id)

    return asyncio.run(store())


def test_an_optimization_is_shown_with_its_trials_front_and_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = _store(folder, is_optimization=True, status="completed", best=BEST)
    code, out, _ = call(capsys, "job", "show", key)
    assert code == 0
    assert out.split("\n\n", 1)[1].splitlines() == [
        "trial  label                 score  rows  failed  calls",
        "0      the program as it is  0.500  20    0       20",
        "1      temperature=0.4       0.912  20    0       20",
        "",
        "front, the best in one figure or in several at once:",
        "trial  exact_match  usd      label",
        "1      0.9123       unknown  temperature=0.4",
        "",
        "best: trial 1, temperature=0.4",
        "self.temperature:",
        "  -0",
        "  +0.4",
        "significantly better on 9 held-out rows",
        "warning: 20 rows are few",
    ]


def test_a_failed_job_and_failed_rows_are_shown_with_the_lines_of_the_users_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"code": "execution_error", "message": "KeyError: 'a'", "frames": FRAMES}
    rows = [{"index": n, "error": f"KeyError: {n // 5}", "frames": FRAMES} for n in range(2, 25)]
    key = _store(folder, status="failed", error=error)
    code, out, _ = call(capsys, "job", "show", key)
    lines = "  app.py:12 in shout\n    return RATES[text]\n"
    assert (code, out.endswith(f"\nerror: KeyError: 'a'\n{lines}")) == (0, True)
    key = _store(folder, status="completed", rows=rows)
    code, out, _ = call(capsys, "job", "show", key)
    parts = [f"row {n}: error: KeyError: {n // 5}\n{lines}" for n in (2, 5, 10)]
    assert (code, out.endswith("\n" + "\n".join(parts))) == (0, True)


def test_workers_that_run_jobs_are_listed_with_their_jobs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no worker is running" in call(capsys, "worker", "list")[1]
    assert not (folder / ".dspex").exists()
    worker = new_id()
    job = _store(folder, status="running", worker=str(worker))

    async def start() -> None:
        settings = Settings(state_dir=folder / ".dspex", cache_dir=folder / "cache")
        async with open_services(settings) as services:
            row = new_worker_row(
                worker,
                clock=services.operations.clock,
                host="build-7",
                pid=4711,
                queues=["evaluation", "optimization"],
                code=lambda: ("", ""),
            )
            await services.operations.dependencies.store.write(Insert(row))

    asyncio.run(start())
    code, out, _ = call(capsys, "worker", "list")
    head, names, row = out.splitlines()
    assert (code, head) == (0, "workers for jobs")
    assert names.split() == ["worker", "host", "pid", "queues", "jobs", "heartbeat"]
    assert f"build-7  4711  evaluation, optimization  evaluation {job[-8:]}" in row
    assert row.endswith(" s ago")
    listed = json.loads(call(capsys, "worker", "list", "--json")[1])
    assert listed["processes"] == []
    assert [(each["pid"], each["jobs"]) for each in listed["job_workers"]] == [
        (4711, [f"evaluation {job[-8:]}"])
    ]


def test_a_watched_job_prints_its_states_as_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "qa.py").write_text("import dspex\nqa = dspex.Predict('question -> answer')\n")
    (folder / "rows.csv").write_text("question,answer\n?,4\n")
    assert call(capsys, "push", "qa.py:qa")[0] == 0
    assert call(capsys, "dataset", "add", "rows", "rows.csv")[0] == 0
    create = ("evaluation", "create", "qa", "--dataset", "rows", "--metric", "f1", "--metrics")
    created = json.loads(call(capsys, *create, "exact_match,contains", "--json")[1])
    assert created["metrics"] == ["f1", "exact_match", "contains"]
    assert call(capsys, "job", "cancel", created["id"])[0] == 0
    code, out, _ = call(capsys, "job", "watch", created["id"])
    events = [line.split("  ", 1)[1] for line in out.partition("\n\n")[0].splitlines()]
    assert (code, events[0].partition(":")[0], events[-1]) == (1, "queued", "cancelled")
    assert not any("{" in event for event in events)
