"""Servers that are killed while an execution waits, and while it goes on after the answer."""

import json
import os
import re
import signal
import sys
import urllib.request
from asyncio import to_thread
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dspex.settings import Settings, environment_of
from dspex.testing import ScriptedModel
from dspex.testing.model_server import ModelServer
from tests.support.command_server import run_dspex
from tests.support.waiting import Child, eventually

pytestmark = pytest.mark.full
PROGRAM = """import asyncio
from pathlib import Path

import dspex


class Refund(dspex.Module):
    signature = "order -> result"

    def __init__(self):
        self.draft = dspex.Predict("order -> amount")
        self.close = dspex.Predict("amount -> result")

    async def forward(self, order):
        draft = await self.draft.acall(order=order)
        answer = await dspex.ask("amount -> approved: bool", amount=draft.amount)
        closed = await self.close.acall(amount=draft.amount)
        Path("runs").open("a").write(f"{answer.approved} ")
        while not Path("go").exists():
            await asyncio.sleep(0.02)
        return {"result": closed.result}
"""


def reply(**fields: str) -> str:
    return "\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


class Server:
    """A server process; its requests block, so tests make them in threads."""

    def __init__(self, stack: ExitStack, folder: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker"]
        self.child = stack.enter_context(
            Child(command, cwd=folder, env={**os.environ, **environment})
        )
        match = re.search(r"http://[\d.:]+", self.child.wait_for_line("serving http", within=180))
        assert match is not None
        self.url = match[0]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def execution(self, key: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/v1/executions/{key}", timeout=120) as answer:
            row = json.load(answer)
        return row.get("execution", row)

    def kill(self) -> None:
        self.child.process.send_signal(signal.SIGKILL)
        self.child.process.wait(60)


@pytest.fixture
def settings(on_each_database: Settings) -> Settings:
    return on_each_database


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_killed_servers_lose_no_answer_and_ask_no_model_twice(
    settings: Settings, tmp_path: Path, stack: ExitStack
) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    model = ScriptedModel(
        lambda request: (
            reply(result="paid")
            if "[[ ## result ## ]]" in str(request.messages)
            else reply(amount="12")
        )
    )
    async with ModelServer({"m": model}) as models:
        environment = {
            **environment_of(settings),
            "DSPEX_MODEL": f"{models.url}#m",
            "DSPEX_STATE_DIR": str(settings.state_dir),
        }
        if settings.database_url is not None:
            environment["DSPEX_DATABASE_URL"] = settings.database_url.reveal()
        pushed = await to_thread(run_dspex, tmp_path, "push", "app.py:Refund", **environment)
        assert pushed.returncode == 0, pushed.stderr

        first = await to_thread(Server, stack, tmp_path, environment)
        body = {"inputs": {"order": "7"}}
        waiting = await to_thread(first.post, "/v1/programs/Refund/execute", body)
        assert waiting["status"] == "waiting"
        await to_thread(first.kill)
        assert models.calls == {"m": 1}

        servers = [await to_thread(Server, stack, tmp_path, environment) for _ in range(2)]
        answer = {"execution_id": waiting["id"], "answer": {"approved": True}}
        await to_thread(servers[0].post, "/v1/actions/answer_execution", answer)
        await eventually((tmp_path / "runs").exists, within=180)
        assert models.calls == {"m": 2}
        row = await to_thread(servers[1].execution, waiting["id"])
        owners = {str(server.child.process.pid): server for server in servers}
        owner = owners.pop(row["owner"].rsplit(":", 3)[1])
        await to_thread(owner.kill)
        (tmp_path / "go").touch()

        [survivor] = owners.values()

        async def end() -> Any:
            row = await to_thread(survivor.execution, waiting["id"])
            return row if row["status"] not in {"running", "pending"} else None

        row = await eventually(end, within=120)
        assert (row["status"], row["outputs"], row["error"]) == (
            "completed",
            {"result": "paid"},
            None,
        )
        assert row["restarts"] == 1
        assert models.calls == {"m": 2}
        assert (tmp_path / "runs").read_text() == "True True "
