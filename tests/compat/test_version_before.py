"""What the version before wrote still opens.

`version_before/make.py` made the files with that version.
"""

import contextlib
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.optimizers import JsonlJournal
from dspex.surfaces.cli import main
from dspex.testing import SimulatedModel
from tests.support.serving import served

FILES = Path(__file__).with_name("version_before")


def unpack(name: str, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.decompress((FILES / f"{name}.gz").read_bytes()))
    return target


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the version before ran programs and jobs."""
    shutil.copy(FILES / "app.py", tmp_path)
    unpack("dspex.sqlite3", tmp_path / ".dspex" / "dspex.sqlite3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def cli(*arguments: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as exit_info:
        main([*arguments])
    assert exit_info.value.code == 0, output.getvalue()
    return output.getvalue()


def rows(noun: str) -> list[Any]:
    return list(json.loads(cli(noun, "list", "--json"))[f"{noun}s"])


@pytest.mark.full
@pytest.mark.usefixtures("folder")
def test_stored_programs_executions_and_jobs_go_on() -> None:
    cli("db", "migrate")
    assert {row["name"] for row in rows("program")} == {"qa", "triage"}
    executions = rows("execution")
    assert [row["status"] for row in executions] == ["completed", "completed"]
    assert "question 1" in cli("execution", "show", executions[-1]["id"])
    before = {row["id"]: row["status"] for row in rows("job")}
    assert sorted(before.values()) == ["completed", "paused", "queued"]
    paused = next(job for job, status in before.items() if status == "paused")
    model = SimulatedModel()
    with served({"m": model}) as server:
        options = ("--model", f"{server.url}#m")
        for target in ("qa", "triage", "app.py:triage"):
            assert "answer" in cli("run", target, "question=question 7", *options)
        calls = model.calls
        cli("job", "resume", paused)
        cli("worker", "start", "--until-idle", *options)
    jobs = [json.loads(cli("job", "show", job, "--json")) for job in before]
    assert [job["status"] for job in jobs] == ["completed"] * 3
    assert [len(job["rows"]) for job in jobs] == [20] * 3
    assert model.calls - calls < 40  # the paused one keeps the answers that it had


def test_trials_of_a_search_become_rows_with_what_is_known_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = FILES.with_name("version_0010") / "search.sqlite3.gz"
    target = tmp_path / ".dspex" / "dspex.sqlite3"
    target.parent.mkdir()
    target.write_bytes(gzip.decompress(packed.read_bytes()))
    monkeypatch.chdir(tmp_path)
    cli("db", "migrate")
    (job,) = rows("job")
    details = json.loads(cli("job", "show", job["id"], "--json"))
    trials = list(reversed(rows("trial")))
    scores = [trial["score"] for trial in details["trials"]]
    assert scores == pytest.approx([6 / 21, 9 / 17, 6 / 17, 7 / 17])
    assert [trial["figures"]["exact_match"] for trial in trials] == scores
    assert [trial["number"] for trial in trials if trial["is_on_front"]] == [0, 1, 3]
    unchanged, best, *others = (trial["assignment"] for trial in trials)
    assert (unchanged, best, others) == ({}, details["best"]["values"], [None, None])
    assert "labelled demonstrations, set 2" in cli("job", "show", job["id"])


def test_a_search_is_read_from_its_journal(tmp_path: Path) -> None:
    train, test = dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(60)]
    ).split(40, seed=0)
    program = dspex.Predict("question -> answer").with_variables(
        dspex.Text("Answer.", options=("Answer.", "Be careful."), name="self.instructions"),
        dspex.Float(0, 1.5, name="self.temperature"),
    )
    journal = JsonlJournal(unpack("journal.jsonl", tmp_path / "journal.jsonl"))
    model = SimulatedModel(seed=1)
    with dspex.context(model=model):
        outcome = dspex.optimize(
            program,
            dspex.Joint(trials=8, cohort=4, first_rows=8, instructions=1, sets=2),
            train=train,
            metric=dspex.exact_match,
            search=dspex.Search(test=test, journal=journal),
        )
    expected = json.loads((FILES / "expected.json").read_text())
    assert {"verdict": str(outcome.verdict), "changes": str(outcome.changes())} == expected
    assert model.calls == 0


def test_a_saved_program_is_loaded() -> None:
    program = dspex.load(FILES / "best.json")
    assert sorted(program.variables()) == [
        "self.demos",
        "self.instructions",
        "self.temperature",
    ]
    with dspex.context(model=SimulatedModel()):
        assert program(question="question 3").answer == "answer 3"
