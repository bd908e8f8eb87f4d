"""`dspex init --template`: each project passes its tests and type checks, and its lines run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.surfaces.cli.main import main
from tests.support.answering_server import AnsweringServer
from tests.support.waiting import Child

NAMES = ["agent", "dspy", "rag", "resource", "triage"]
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
MODEL = re.compile(r"(?<=--dspex-model )\S+")
CITED = {"statements": [{"text": "lost card", "sources": [{"passage": 1}]}]}
VALUES = {"team": "lost card", "topic": "a card", "euros": 4}
VALUES |= {"reasoning": "", "answer": json.dumps(CITED)}
# dspy has no types
TYPES = {"dspy": ["--ignore-missing-imports"]}


class Project:
    """A folder where lines run as its README says, with the model of `server`."""

    def __init__(self, folder: Path, server: AnsweringServer) -> None:
        self.folder = folder
        self.model = server.model
        self.environment = {**os.environ, "DSPEX_MODEL": server.model}
        tools = folder.parent / "bin"
        tools.mkdir()
        for name in ("dspex", "pytest", "mypy"):
            (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {name} "$@"\n')
            (tools / name).chmod(0o755)
        self.environment["PATH"] = f"{tools}:{os.environ['PATH']}"

    def run(self, line: str) -> str:
        process = subprocess.run(
            ["/bin/sh", "-ec", MODEL.sub(self.model, line)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert process.returncode == 0, f"{line}\n{process.stdout}\n{process.stderr}"
        return process.stdout


def init(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as exit_:
        main(["init", *arguments, "--json"])
    assert not exit_.value.code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def blocks(folder: Path) -> list[str]:
    return BLOCK.findall((folder / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_project_has_rows_in_two_splits(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = init(capsys, "desk", "--template", name)
    assert {*answer["files"]} == {path.name for path in (tmp_path / "desk").iterdir()}
    assert answer["commands"] == ["cd desk", *blocks(tmp_path / "desk")[0].splitlines()]
    rows = (tmp_path / "desk" / "data.csv").read_text().splitlines()[1:]
    splits = [row.rpartition(",")[2] for row in rows]
    assert splits.count("train") >= 24
    assert splits.count("test") >= 12
    assert len(set(rows)) == splits.count("train") + splits.count("test")


def test_triage_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(capsys, "a")["files"] == init(capsys, "b", "--template", "triage")["files"]
    with pytest.raises(SystemExit):
        main(["init", "c", "--template", "rag2"])
    assert ", ".join(map(repr, NAMES)) in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize(
    "name",
    [name if name == "triage" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_lines_of_the_readme_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "dspy":
        pytest.importorskip("dspy", reason="pip install 'dspex[dspy]'")
    monkeypatch.chdir(tmp_path)
    *lines, last = init(capsys, "desk", "--template", name)["commands"][1:]
    assert last == "dspex serve"
    with AnsweringServer(VALUES) as server:
        project = Project(tmp_path / "desk", server)
        output = "\n".join([project.run(line) for line in lines])
        assert "lost card" in output or "euros: 4" in output
        assert "held-out rows" in output  # of `dspex optimize`
        assert re.search(r"\d passed", output), output
        assert "skipped" not in output
        serve = shlex.split(f"{sys.executable} -m {last} --port 0 --no-worker")
        with Child(serve, cwd=project.folder, env=project.environment) as child:
            url = re.search(r"http://[\d.:]+", child.wait_for_line("serving http"))
            assert url is not None
            calls = blocks(project.folder)[1].replace("http://127.0.0.1:8123", url[0])
            answers = project.run(calls)
        assert '"code"' not in answers, answers
        assert '"lost card"' in answers or '"euros":4' in answers


@pytest.mark.full
def test_types_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:  # one after the other, so that dspex itself is checked only once
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        init(capsys, "desk", "--template", name)
        cache = f"--cache-dir={tmp_path / 'cache'}"
        process = subprocess.run(
            [sys.executable, "-m", "mypy", *TYPES.get(name, ["--strict"]), cache, "desk"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MYPYPATH": "desk"},
        )
        assert process.returncode == 0, f"{name}\n{process.stdout}"
