"""Questions of programs to people, asked and answered on the command line without a server."""

import asyncio
import json
from pathlib import Path

import pytest

from dspex.bootstrap import new_id, open_services
from dspex.operations.framework.store import Insert
from dspex.operations.jobs.worker_registry import new_worker_row
from dspex.settings import Settings
from tests.surfaces.cli.test_commands import call

PROGRAM = """
import dspex

@dspex.program
async def refund(amount: int) -> str:
    \"\"\"Refund an amount after somebody approved it.\"\"\"
    reply = await dspex.ask("amount: int -> approved: bool", amount=amount)
    if not reply.approved:
        raise ValueError("nobody approved it")
    return f"refunded {amount}"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"refunds_{abs(hash(request.node.nodeid))}"
    Path(f"{name}.py").write_text(PROGRAM)
    return name


def test_an_answer_continues_the_execution_where_no_server_runs(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "run", f"{module}.py:refund", "amount=5")
    assert (code, "`dspex inbox` shows the question" in err) == (0, True)
    code, out, err = call(capsys, "inbox")
    key = json.loads(call(capsys, "inbox", "--json")[1])["questions"][0]["id"]
    assert (code, err.strip()) == (0, f"answer one: dspex execution answer {key[-8:]}")
    code, out, err = call(capsys, "execution", "answer", key[-8:], "approved=true")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("execution is completed")
    assert out.splitlines()[1] == "result: refunded 5"


def test_a_program_that_fails_after_the_answer_shows_its_error(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "run", f"{module}.py:refund", "amount=5")
    key = json.loads(call(capsys, "inbox", "--json")[1])["questions"][0]["id"]
    _, out, err = call(capsys, "execution", "answer", key, "approved=false")
    assert "execution is failed" in out
    assert "nobody approved it" in err
    assert f"{module}.py:9 in refund" in err


def test_an_answer_leaves_the_execution_to_a_worker_that_runs(
    module: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call(capsys, "run", f"{module}.py:refund", "amount=5")

    async def register() -> None:
        async with open_services(Settings(state_dir=tmp_path / ".dspex")) as services:
            row = new_worker_row(
                new_id(),
                clock=services.operations.clock,
                host="elsewhere",
                pid=1,
                queues=[],
                code=lambda: ("", ""),
            )
            await services.operations.dependencies.store.write(Insert(row))

    asyncio.run(register())
    key = json.loads(call(capsys, "inbox", "--json")[1])["questions"][0]["id"]
    _, out, err = call(capsys, "execution", "answer", key, "approved=true")
    assert "execution is pending" in out
    assert "the server or worker of this database continues it" in err
