"""The first hour of a new user, from the installation on, on real terminals of three widths."""

import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering_server import AnsweringServer
from tests.support.terminal import Terminal
from tests.support.waiting import Child

JOURNAL = "search.jsonl"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `dspex` in a new environment, where it is installed from a wheel."""
    pytest.importorskip("hatchling", reason="pip install 'dspex[dev]'")
    folder = tmp_path_factory.mktemp("installed")
    environment_folder = folder / "venv"

    def run(*words: str | Path) -> str:
        process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    [wheel] = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", environment_folder)
    python = environment_folder / "bin" / "python"
    # modules are compiled at their first import, which compiles those that are used
    install = ("install", "--no-deps", "--no-index", "--no-compile", "--quiet", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # the dependencies are those of this environment, whose own dspex no path leads to
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    file = run(python, "-c", "import dspex; print(dspex.__file__)").strip()
    assert Path(file).is_relative_to(site)
    return python.parent


class Server(AnsweringServer):
    """A model that needs demonstrations: without them, it answers the same to everything."""

    def __init__(self) -> None:
        super().__init__({"team": "lost card"}, seconds=0.05)
        self.teams: dict[str, str] = {}

    def values(self, request: Any) -> dict[str, str]:
        has_demonstrations = any(each["role"] == "assistant" for each in request["messages"])
        text = str(request["messages"][-1]["content"])
        team = next((team for message, team in self.teams.items() if message in text), None)
        return {"team": team if team and has_demonstrations else "lost card"}


@pytest.fixture
def server() -> Server:
    return Server()


def environment(model: str, binaries: Path) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
    path = f"{binaries}:{os.environ['PATH']}"
    return {**others, "DSPEX_MODEL": model, "PATH": path}


@pytest.mark.full
@pytest.mark.parametrize(
    "columns",
    [60, pytest.param(100, marks=pytest.mark.slow), pytest.param(160, marks=pytest.mark.slow)],
)
def test_the_first_hour(columns: int, tmp_path: Path, server: Server, binaries: Path) -> None:
    with server:
        variables = environment(server.model, binaries)
        start = Terminal(tmp_path, columns, variables)
        assert "created desk/" in start.run("dspex init desk")[0]
        shell = Terminal(tmp_path / "desk", columns, variables)
        with (shell.folder / "data.csv").open(newline="") as file:
            server.teams = {row["message"]: row["team"] for row in csv.DictReader(file)}
        assert shell.run("dspex execution list") == ["no execution is stored here, or none fits"]
        assert not (shell.folder / ".dspex").exists()
        _runs_and_scores(shell)
        _continues_a_killed_search(shell, server)
        _shows_what_is_stored(shell)
        _serves_and_works(shell, variables)


def _runs_and_scores(shell: Terminal) -> None:
    run = shell.run('dspex run program.py:triage message="I lost my card"')
    assert "team: lost card" in run
    assert any(line.startswith("completed in") for line in run)
    prompt = shell.run("dspex prompt program.py:triage message=hello")
    assert any("Route a customer's message" in line for line in prompt)
    report = shell.run("dspex eval program.py:triage data.csv --where split=test")
    text = "\n".join(report)
    assert re.search(r"\b0\.333\b", text), text
    assert "worst rows" in text


def _continues_a_killed_search(shell: Terminal, server: Server) -> None:
    search = (
        "dspex optimize program.py:triage data.csv --where split=train --test split=test --store "
        f"--journal {JOURNAL} --concurrency 2"
    )
    journal, before = shell.folder / JOURNAL, len(server.asked)
    shell.run(search, kill_when=lambda: journal.exists() and journal.stat().st_size > 8000)
    killed = len(server.asked) - before
    assert killed > 0
    text = " ".join("\n".join(shell.run(search)).split())
    assert "the winner is version 2 of triage, the current one" in text
    assert "next: dspex program diff triage 1 2 shows the changes" in text
    prompts = [json.dumps(request) for request in server.asked[before:]]
    assert len(prompts) - len(set(prompts)) <= 2  # those in flight when it was killed
    changes = "\n".join(shell.run("dspex program diff triage 1 2"))
    assert '+     "team": "lost card"' in changes


def _shows_what_is_stored(shell: Terminal) -> None:
    run = shell.run('dspex run triage message="I have moved, please change my address"')
    assert "team: new address" in run
    assert shell.run("dspex push program.py:triage --name desk")[0] == "desk: version 1"
    programs = shell.run("dspex program list")
    assert programs[0].split()[0] == "name"
    assert {line.split()[0] for line in programs[1:]} == {"desk", "triage"}
    rows = shell.run("dspex execution list --limit 3 2>/dev/null")
    assert len(rows) == 4
    assert all(re.search(r" [0-9a-f]{8}$", line) for line in rows[1:])
    execution = shell.run(f"dspex execution show {rows[1].split()[-1]}")
    assert "calls" in execution
    assert max(map(len, programs + rows)) <= shell.columns


def _serves_and_works(shell: Terminal, variables: dict[str, str]) -> None:
    command = ["dspex", "serve", "--port", "0", "--no-worker"]
    with Child(command, cwd=shell.folder, env=variables) as serve:
        url = re.search(r"http://[\d.:]+", serve.wait_for_line("serving http"))
        assert url is not None
        body = json.dumps({"inputs": {"message": "I have moved, please change my address"}})
        answer = shell.run(
            f"curl -s {url[0]}/v1/programs/triage/execute -H 'Content-Type: application/json' "
            f"-d '{body}'"
        )
        assert '"outputs":{"team":"new address"}' in "".join(answer)
    shell.run("dspex dataset add messages data.csv")
    created = shell.run("dspex evaluation create triage --dataset messages --metrics exact_match")
    assert created[0].startswith("evaluation is queued")
    shell.run("dspex worker start --until-idle")
    jobs = "\n".join(shell.run("dspex job list"))
    assert "completed" in jobs
    assert "42 of" in jobs  # narrow terminals cut the rest
