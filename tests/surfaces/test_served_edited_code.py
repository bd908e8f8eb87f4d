"""A started server, whose code is edited: what an execution ran is what its version says."""

import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_server import run_dspex
from tests.support.waiting import DEADLINE, Child

pytestmark = pytest.mark.full
APP = """
import dspex

@dspex.program
def inline(text: str) -> str:
    "In the server."
    return text + "MARK"

class Apart(dspex.Module):
    signature = "text -> result"
    isolation = "process"

    async def forward(self, text):
        return {"result": text + "MARK"}

class Mixed(dspex.Module):
    signature = "text -> result"

    def __init__(self):
        self.part = dspex.Predict("text -> result").on("mock")

    async def forward(self, text):
        await self.part.acall(text=text)
        return {"result": text + "MARK"}
"""
TARGETS = {"inline": "native", "Apart": "isolated", "Mixed": "hybrid"}
EXECUTE = (
    "mutation($input: ExecuteProgramInput!) "
    "{ executeProgram(input: $input) { status backend outputs error programVersion { number } } }"
)


def test_after_an_edit_a_server_runs_the_new_code_under_the_new_version(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.replace("MARK", "1"))
    command = [sys.executable, "-m", "dspex", "serve", "--port", "0"]
    with Child(command, cwd=tmp_path, env=dict(os.environ)) as child:
        url = re.search(r"http://[\d.:]+", child.wait_for_line("serving http"))
        assert url is not None
        programs = {target: _stored(tmp_path, target) for target in TARGETS}
        for target, program in programs.items():
            answer = _execute(url[0], program)
            assert answer == {
                "status": "COMPLETED",
                "backend": TARGETS[target],
                "outputs": {"result": "a1"},
                "error": None,
                "programVersion": {"number": 1},
            }
        app.write_text(APP.replace("MARK", "2"))
        assert {target: _stored(tmp_path, target) for target in TARGETS} == programs
        for program in programs.values():
            assert _new_answer(url[0], program) == {"result": "a2"}
        child.stop()


def _stored(folder: Path, target: str) -> str:
    process = run_dspex(folder, "run", f"app.py:{target}", "text=a", "--json")
    assert process.returncode == 0, process.stdout + process.stderr
    return str(json.loads(process.stdout)["program_id"])


def _execute(url: str, program: str) -> Any:
    body = json.dumps(
        {"query": EXECUTE, "variables": {"input": {"programId": program, "inputs": {"text": "a"}}}}
    )
    request = urllib.request.Request(
        f"{url}/graphql", body.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.load(answer)["data"]["executeProgram"]


def _new_answer(url: str, program: str) -> Any:
    """What the second version answers, which a server may see a moment later than it is stored."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        answer = _execute(url, program)
        number = answer["programVersion"]["number"]
        assert answer["outputs"] == {"result": f"a{number}"}, answer
        if number == 2:
            return answer["outputs"]
    raise AssertionError("the server never saw the second version")
