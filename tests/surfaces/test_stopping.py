"""A server that is asked to stop lets what runs end, and gives the rest back as interrupted."""

import json
import re
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

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
    with Child([sys.executable, "-m", "dspex", "run", "app.py:wait", "name=stored"], cwd=tmp_path) as stored:
        assert stored.process.wait(60) == 0
    with Child([sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"], cwd=tmp_path) as server:
        found = re.search(r"http://[\d.:]+", server.wait_for_line("serving http"))
        assert found is not None

        def execute(name: str) -> Any:
            body = json.dumps({"inputs": {"name": name}}).encode()
            request = urllib.request.Request(
                f"{found[0]}/v1/programs/wait/execute", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(execute, name) for name in ("soon", "never")]
            while not all((tmp_path / f"{name}.begun").exists() for name in ("soon", "never")):
                assert server.process.poll() is None
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
