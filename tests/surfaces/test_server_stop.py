"""A server that is asked to stop lets what runs end, and gives the rest back as interrupted."""

import json
import re
import signal
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_server import run_dspex
from tests.support.waiting import Child

pytestmark = pytest.mark.full
PROGRAM = """import asyncio
from pathlib import Path

import dspex


@dspex.program
async def wait(name: str) -> str:
    \"\"\"Wait for a file.\"\"\"
    Path(f"{name}.begun").touch()
    while not Path(name).exists():
        await asyncio.sleep(0.02)
    return name
"""


def test_what_runs_may_end_and_the_rest_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / "stored").touch()
    assert run_dspex(tmp_path, "run", "app.py:wait", "name=stored").returncode == 0
    with Child(
        [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"], cwd=tmp_path
    ) as server:
        match = re.search(r"http://[\d.:]+", server.wait_for_line("serving http"))
        assert match is not None

        def execute(name: str) -> Any:
            body = json.dumps({"inputs": {"name": name}}).encode()
            request = urllib.request.Request(
                f"{match[0]}/v1/programs/wait/execute", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(execute, name) for name in ("soon", "never")]
            files = [tmp_path / f"{name}.begun" for name in ("soon", "never")]
            server.wait_for(lambda: all(file.exists() for file in files))
            server.process.terminate()
            (tmp_path / "soon").touch()
            soon, never = [call.result(60) for call in calls]
        assert (soon["status"], soon["outputs"]) == ("completed", {"result": "soon"})
        assert (never["status"], never["error"]["code"], never["error"]["retryable"]) == (
            "interrupted",
            "interrupted",
            True,
        )
        assert server.process.wait(60) in {0, -15}


STUBBORN = """import asyncio
from pathlib import Path

import dspex


@dspex.program
async def stay(name: str) -> str:
    \"\"\"Swallow every cancellation.\"\"\"
    Path(f"{name}.begun").touch()
    while name != "stored":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            Path(f"{name}.swallowed").touch()
    return name
"""


@pytest.mark.parametrize("isolation", ["inline", "process"])
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow),
    ],
)
def test_a_program_that_swallows_its_cancellation_does_not_keep_a_server_from_stopping(
    tmp_path: Path, number: signal.Signals, isolation: str
) -> None:
    (tmp_path / "app.py").write_text(STUBBORN)
    (tmp_path / "dspex.toml").write_text(f'isolation = "{isolation}"\n')
    assert run_dspex(tmp_path, "run", "app.py:stay", "name=stored").returncode == 0
    command = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"]
    with Child(command, cwd=tmp_path) as server:
        url = re.search(r"http://[\d.:]+", server.wait_for_line("serving http"))
        assert url is not None
        body = json.dumps({"inputs": {"name": "one"}}).encode()
        request = urllib.request.Request(
            f"{url[0]}/v1/programs/stay/execute", body, {"content-type": "application/json"}
        )

        def call() -> None:
            with suppress(OSError), urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()

        with ThreadPoolExecutor(1) as threads:
            threads.submit(call)
            server.wait_for((tmp_path / "one.begun").exists)
            server.process.send_signal(number)
            server.process.wait(60)
    assert (tmp_path / "one.swallowed").exists() or isolation == "process"
    rows = run_dspex(tmp_path, "execution", "list", "--json")
    executions = json.loads(rows.stdout)["executions"]
    assert [row["status"] for row in executions] == ["interrupted", "completed"]
