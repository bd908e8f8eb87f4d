"""A server that is asked to stop, as a process."""

import json
import re
import signal
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_server import run_dspex
from tests.support.waiting import Child

PROGRAM = """
import asyncio
from pathlib import Path

import dspex


@dspex.program
async def slow(text: str) -> str:
    Path("begun").touch()
    print("begun", flush=True)
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return text
"""


def _asked(url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.full
def test_a_server_that_stops_listens_until_what_runs_has_ended(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / "go").touch()
    assert run_dspex(tmp_path, "run", "app.py:slow", "text=x").returncode == 0
    (tmp_path / "go").unlink()
    words = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"]
    with Child(words, cwd=tmp_path) as server, ThreadPoolExecutor(1) as caller:
        url = re.search(r"http://[\d.:]+", server.wait_for_line("serving http"))[0]  # type: ignore[index]
        running = caller.submit(
            _asked, f"{url}/v1/programs/slow/execute", {"inputs": {"text": "kept"}}
        )
        server.wait_for_line("begun")
        server.process.send_signal(signal.SIGTERM)
        while (state := _asked(f"{url}/readyz"))[0] == 200:
            continue
        assert state == (503, {"status": "not ready", "problems": ["this server is being stopped"]})
        status, refused = _asked(f"{url}/v1/programs/slow/execute", {"inputs": {"text": "new"}})
        assert (status, refused["error"]["type"], refused["error"]["retryable"]) == (
            503,
            "UnavailableError",
            True,
        )
        assert _asked(f"{url}/v1/executions")[0] == 200
        (tmp_path / "go").touch()
        status, row = running.result(30)
        assert (status, row["status"], row["outputs"]) == (200, "completed", {"result": "kept"})
        assert server.process.wait(30) in {0, -signal.SIGTERM}
        with pytest.raises(urllib.error.URLError):
            _asked(f"{url}/readyz")


@pytest.mark.full
def test_a_second_signal_ends_a_server_at_once_with_its_streams(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / "go").touch()
    assert run_dspex(tmp_path, "run", "app.py:slow", "text=x").returncode == 0
    (tmp_path / "go").unlink()
    (tmp_path / "dspex.toml").write_text("drain_seconds = 3600")
    words = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"]
    with Child(words, cwd=tmp_path) as server, ThreadPoolExecutor(2) as callers:
        url = re.search(r"http://[\d.:]+", server.wait_for_line("serving http"))[0]  # type: ignore[index]
        query = json.dumps(
            {"query": "subscription { executionUpdates { execution { status } } }"}
        ).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/graphql/stream", query, headers)
        ) as stream:
            running = callers.submit(
                _asked, f"{url}/v1/programs/slow/execute", {"inputs": {"text": "never"}}
            )
            server.wait_for_line("begun")
            server.process.send_signal(signal.SIGTERM)
            while _asked(f"{url}/readyz")[0] == 200:
                continue
            server.process.send_signal(signal.SIGTERM)
            status, row = running.result(30)
            assert (status, row["status"]) == (200, "interrupted")
            assert server.process.wait(30) in {0, -signal.SIGTERM}
            message = stream.read().decode()
        assert "RUNNING" in message
        assert "event: complete" not in message
    assert not [line for line in server.seen if "Traceback" in line or "error" in line]
