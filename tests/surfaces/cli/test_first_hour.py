"""The first hour of a new user, on real terminals of three widths."""

import json
import os
import re
import shlex
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.answering_server import AnsweringServer
from tests.support.terminal import Terminal
from tests.support.waiting import Child

DSPEX = f"{shlex.quote(sys.executable)} -m dspex"
JOURNAL = "search.jsonl"


@pytest.fixture
def server() -> AnsweringServer:
    return AnsweringServer({"team": "cards"}, seconds=0.05)


def environment(model: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
    return {**kept, "DSPEX_MODEL": model}


@pytest.mark.full
@pytest.mark.parametrize(
    "columns",
    [60, pytest.param(100, marks=pytest.mark.slow), pytest.param(160, marks=pytest.mark.slow)],
)
def test_the_first_hour(columns: int, tmp_path: Path, server: AnsweringServer) -> None:
    with server:
        start = Terminal(tmp_path, columns, environment(server.model))
        assert "created desk/" in start.run(f"{DSPEX} init desk")[0]
        shell = Terminal(tmp_path / "desk", columns, environment(server.model))
        rows = [f"message {number},{team}" for number in range(30) for team in ("cards", "account")]
        (shell.folder / "more.csv").write_text("\n".join(["message,team", *rows]))
        assert shell.run(f"{DSPEX} execution list") == ["no execution is stored here, or none fits"]
        assert not (shell.folder / ".dspex").exists()
        _runs_and_scores(shell)
        _continues_a_killed_search(shell, server)
        _shows_what_is_stored(shell)
        _serves_and_works(shell, server)


def _runs_and_scores(shell: Terminal) -> None:
    run = shell.run(f'{DSPEX} run program.py:triage message="My card is broken"')
    assert "team: cards" in run
    assert any(line.startswith("completed in") for line in run)
    prompt = shell.run(f"{DSPEX} prompt program.py:triage message=hello")
    assert any("Route a customer's message" in line for line in prompt)
    report = shell.run(f"{DSPEX} eval program.py:triage data.csv --metric exact_match")
    text = "\n".join(report)
    assert re.search(r"\b0\.333\b", text), text
    assert "worst rows" in text


def _continues_a_killed_search(shell: Terminal, server: AnsweringServer) -> None:
    search = (
        f"{DSPEX} optimize program.py:triage more.csv --metric exact_match --journal {JOURNAL} "
        "--optimizer LabeledFewShot --concurrency 2"
    )
    journal, before = shell.folder / JOURNAL, len(server.asked)
    shell.run(search, kill_when=lambda: journal.exists() and journal.stat().st_size > 8000)
    killed = len(server.asked) - before
    assert killed > 0
    text = "\n".join(shell.run(search))
    assert "no significant" in text or "not significant" in text or "unchanged" in text, text
    prompts = [json.dumps(request) for request in server.asked[before:]]
    assert len(prompts) - len(set(prompts)) <= 2  # those in flight when it was killed


def _shows_what_is_stored(shell: Terminal) -> None:
    assert shell.run(f"{DSPEX} push program.py:triage --name desk")[0] == "desk: version 1"
    programs = shell.run(f"{DSPEX} program list")
    assert programs[0].split()[0] == "name"
    assert {line.split()[0] for line in programs[1:]} >= {"desk", "triage"}
    listed = shell.run(f"{DSPEX} execution list --limit 3 2>/dev/null")
    assert len(listed) == 4
    assert all(re.search(r" [0-9a-f]{8}$", line) for line in listed[1:])
    shown = shell.run(f"{DSPEX} execution show {listed[1].split()[-1]}")
    assert "calls" in shown
    assert max(map(len, programs + listed)) <= shell.columns


def _serves_and_works(shell: Terminal, server: AnsweringServer) -> None:
    command = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"]
    with Child(command, cwd=shell.folder, env=environment(server.model)) as serve:
        url = re.search(r"http://[\d.:]+", serve.wait_for_line("serving http"))
        assert url is not None
        request = urllib.request.Request(
            f"{url[0]}/v1/programs/desk/execute",
            b'{"inputs": {"message": "My PIN is wrong"}}',
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["outputs"] == {"team": "cards"}
    shell.run(f"{DSPEX} dataset add messages data.csv")
    created = shell.run(f"{DSPEX} evaluation create desk --dataset messages --metrics exact_match")
    assert created[0].startswith("evaluation is queued")
    shell.run(f"{DSPEX} worker start --until-idle")
    jobs = "\n".join(shell.run(f"{DSPEX} job list"))
    assert "completed" in jobs
    assert "6 of 6 rows" in jobs
