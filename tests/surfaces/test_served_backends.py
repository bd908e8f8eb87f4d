"""A started server whose programs run in workers, and the command that shows these."""

import importlib.util
import json
import os
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering_server import AnsweringServer
from tests.support.command_server import run_dspex
from tests.support.waiting import Child

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'"
    ),
]
VALUES = {
    "query": "q",
    "reasoning": "r",
    "answer": 7,
    "next_thought": "t",
    "next_tool_name": "finish",
    "next_tool_args": "{}",
}
CREATE = (
    "mutation($input: CreateProgramInput!) { createProgram(input: $input) { status backend module "
    "} }"
)
EXECUTE = (
    "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { status backend "
    "outputs error } }"
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Path]]:
    with AnsweringServer(VALUES) as model:
        monkeypatch.setenv("DSPEX_MODEL", model.model)
        command = [sys.executable, "-m", "dspex", "serve", "--port", "0"]
        with Child(command, cwd=tmp_path, env=dict(os.environ)) as child:
            url = re.search(r"http://[\d.:]+", child.wait_for_line("serving http"))
            assert url is not None

            def ask(query: str, **values: Any) -> Any:
                body = json.dumps({"query": query, "variables": {"input": values}}).encode()
                request = urllib.request.Request(
                    f"{url[0]}/graphql", body, {"content-type": "application/json"}
                )
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)

            yield ask, tmp_path
            child.process.send_signal(signal.SIGINT)
            child.process.wait(30)
            assert not [line for line in child.seen if "Traceback" in line]
            assert workers(tmp_path) == []
            assert list((tmp_path / ".dspex" / "workers").iterdir()) == []


PLAIN = """
import dspex

class Plain(dspex.Module):
    signature = "question -> answer: int"

    def __init__(self, search: str, last: str):
        self.search = dspex.Predict("question -> query").on(search)
        self.steps = [dspex.Predict("question, query -> answer: int").on(last)]

    def forward(self, question: str):
        return self.steps[0](question=question, query=self.search(question=question).query)

dspy, half, made_up = Plain("dspy", "dspy"), Plain("dspy", "native"), Plain("mock", "dspy")
"""


def workers(folder: Path) -> Any:
    process = run_dspex(folder, "worker", "list", "--json")
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)["processes"]


def test_programs_made_over_graphql_run_in_dspy_workers_which_the_command_line_shows(
    server: tuple[Any, Path],
) -> None:
    ask, folder = server
    (message,) = workers(folder)
    assert (message["what"], message["pools"]) == ("serve", [])
    for module in ("predict", "chain_of_thought"):
        answer = ask(
            CREATE, name=module, signature="question -> answer: int", module=module, backend="dspy"
        )
        assert answer["data"]["createProgram"] == {
            "status": "READY",
            "backend": "dspy",
            "module": module,
        }
        execution = ask(EXECUTE, program=module, inputs={"question": "?"})["data"]["executeProgram"]
        assert (execution["status"], execution["backend"], execution["outputs"]["answer"]) == (
            "COMPLETED",
            "dspy",
            7,
        )
    execution = ask(EXECUTE, program="predict", inputs={"question": "?"}, backend="isolated")[
        "data"
    ]["executeProgram"]
    assert (execution["status"], execution["backend"], execution["outputs"]) == (
        "COMPLETED",
        "isolated",
        {"answer": 7},
    )
    pools = {pool["name"]: pool for pool in _settled(folder)[0]["pools"]}
    assert pools.keys() == {"isolated", "dspy"}
    by_role = {worker["role"]: worker["pid"] for worker in pools["dspy"]["workers"]}
    assert by_role.keys() == {"serving", "spare"}

    victim = by_role["serving"]
    os.kill(victim, signal.SIGKILL)
    execution = ask(EXECUTE, program="predict", inputs={"question": "?"})["data"]["executeProgram"]
    assert execution["status"] == "COMPLETED" or execution["error"]["code"] == "worker_lost"
    again = {pool["name"]: pool for pool in _settled(folder)[0]["pools"]}["dspy"]
    assert again["restarts"] == 1
    assert victim not in [worker["pid"] for worker in again["workers"]]


def _settled(folder: Path) -> Any:
    """What is shown once every worker is ready.

    Each look starts a process, which takes its time.
    """
    for _ in range(100):
        processes = workers(folder)
        if all(
            worker["state"] == "ready" and worker["memory"]
            for pool in processes[0]["pools"]
            for worker in pool["workers"]
        ):
            return processes
    raise AssertionError(f"the workers are not ready: {processes}")


def test_what_a_backend_does_not_have_is_an_error_of_its_field(server: tuple[Any, Path]) -> None:
    ask, _ = server
    for values, field in (
        ({"backend": "dpsy"}, "backend"),
        ({"module": "chain"}, "module"),
        ({"module": "react", "backend": "dspy"}, "configuration.tools"),
        ({"module": "dspy_retriever"}, "module"),
        ({"configuration": {"isolation": "thread"}}, "configuration.isolation"),
    ):
        (error,) = ask(CREATE, name="p", signature="q -> a", **values)["errors"]
        assert error["extensions"]["code"] == "invalid"
        assert [result["path"] for result in error["extensions"]["fields"]] == [field]
    answer = ask(
        CREATE, name="own", signature="q -> answer: int", configuration={"isolation": "process"}
    )
    assert answer["data"]["createProgram"]["backend"] == "isolated"
    execution = ask(EXECUTE, program="own", inputs={"q": "?"})["data"]["executeProgram"]
    assert (execution["status"], execution["backend"]) == ("COMPLETED", "isolated"), execution
    (error,) = ask(EXECUTE, program="own", inputs={"q": "?"}, backend="nowhere")["errors"]
    assert [result["field"] for result in error["extensions"]["fields"]] == ["backend"]


def test_a_forward_that_is_not_async_calls_its_parts_in_workers_from_a_server(
    server: tuple[Any, Path],
) -> None:
    ask, folder = server
    (folder / "plain.py").write_text(PLAIN)
    for name in ("dspy", "half", "made_up"):
        process = run_dspex(folder, "run", f"plain.py:{name}", "question=?", "--json")
        assert process.returncode == 0, process.stdout + process.stderr
        ran = json.loads(process.stdout)
        assert (ran["backend"], ran["outputs"]) == ("hybrid", {"answer": 7})
        execution = ask(EXECUTE, programId=ran["program_id"], inputs={"question": "?"})["data"][
            "executeProgram"
        ]
        assert execution == {
            "status": "COMPLETED",
            "backend": "hybrid",
            "outputs": {"answer": 7},
            "error": None,
        }
