"""The whole way of an execution, for success and for each kind of failure, on both databases.

GraphQL, resource, data layer, backend, worker, dspy, a model server on loopback, and back to the
row and the subscription.
"""

import asyncio
import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query
from dspex.settings import Settings
from dspex.surfaces.api import ServerConfig
from dspex.testing import LoopbackServer, http_answer
from tests.surfaces.api.client import Server, Socket, serving

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'"
    ),
]
CREATE = (
    "mutation($input: CreateProgramInput!) { createProgram(input: $input) { id status backend } }"
)
EXECUTE = (
    "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { id status outputs "
    "error } }"
)
UPDATES = """subscription($program: ID, $after: ID) {
  executionUpdates(programId: $program, after: $after) { execution { id status outputs error } }
}"""
BEGINNING = "00000000-0000-7000-8000-000000000000"


def reply(text: str) -> bytes:
    """A model's answer."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return http_answer(
        {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "model": "m"}
    )


RIGHT = reply("[[ ## answer ## ]]\n7\n\n[[ ## completed ## ]]")
REFUSED = http_answer({"error": {"message": "wrong key"}}, status=401)


def children(mark: str) -> list[int]:
    """The processes below this one whose command line holds `mark`."""
    result = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and mark in (folder / "cmdline").read_text():
                    result.append(int(folder.name))
            except OSError:
                continue  # it has ended meanwhile
    return result


async def executed(server: Server, inputs: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Execute by GraphQL; a refusal is shown as the execution that it left."""
    answer = await server.graphql(EXECUTE, input={"program": "qa", "inputs": inputs, **values})
    if "errors" not in answer:
        execution: dict[str, Any] = answer["data"]["executeProgram"]
        return execution
    extensions = answer["errors"][0]["extensions"]
    item = "query($id: ID!) { execution(id: $id) { id status outputs error } }"
    return (await server.graphql(item, id=extensions["executionId"]))["data"]["execution"]


async def test_an_execution_goes_all_the_way_and_back(
    on_each_database: Settings, tmp_path: Path
) -> None:
    hold = asyncio.Event()
    scripts = [
        RIGHT,
        reply("nonsense"),
        reply("nonsense"),
        REFUSED,
        [hold, RIGHT],
        [hold, RIGHT],
        RIGHT,
    ]
    async with LoopbackServer(*scripts) as model:
        settings = {"database_url": on_each_database.database_url, "model": f"{model.url}/v1#m"}
        async with serving(tmp_path, ServerConfig(), **settings) as server:
            await through(server, model)


async def through(server: Server, model: LoopbackServer) -> None:
    answer = await server.graphql(
        CREATE, input={"name": "qa", "signature": "question -> answer: int", "backend": "dspy"}
    )
    assert answer["data"]["createProgram"]["backend"] == "dspy"
    right = await executed(server, {"question": "?"})
    assert (right["status"], right["outputs"]) == ("COMPLETED", {"answer": 7})
    body = {"completed": right}
    body["unreadable reply"] = await executed(server, {"question": "unreadable"})
    call_count = len(model.asked)
    while call_count < 3:  # the second layout of an adapter is a second call, where there is one
        await executed(server, {"question": "fill"})
        call_count = len(model.asked)
    body["refused by the provider"] = await executed(server, {"question": "refused"})
    body["deadline"] = await executed(server, {"question": "slow"}, timeout=1.0)
    killed = asyncio.ensure_future(executed(server, {"question": "killed"}))
    await model.until_asked(len(model.asked) + 1)
    for child in children("dspy_bridge"):
        os.kill(child, signal.SIGKILL)
    body["worker killed"] = await killed
    body["wrong inputs"] = await executed(server, {"nothing": 1})
    codes = {name: (row["error"] or {}).get("code") for name, row in body.items()}
    assert codes == {
        "completed": None,
        "unreadable reply": "adapter",
        "refused by the provider": "refused",
        "deadline": "deadline",
        "worker killed": "worker_lost",
        "wrong inputs": "invalid",
    }
    after = await executed(server, {"question": "and again"})
    assert after["status"] == "COMPLETED"
    await stored_and_told(
        server, {row["id"]: row for row in [*body.values(), after]}, answer["data"]["createProgram"]
    )


async def stored_and_told(server: Server, rows: dict[str, Any], program: dict[str, Any]) -> None:
    """Each is one row with its end, and the subscription tells the same of it."""
    stored = await server.services.operations.list(DOMAIN["execution"], Query(limit=100))
    ends = {str(row.id): row.status.upper() for row in stored}
    assert {key: ends[key] for key in rows} == {key: row["status"] for key, row in rows.items()}
    socket = Socket(server)
    await socket.event()
    socket.send(type="connection_init")
    await socket.message()
    follow = {"query": UPDATES, "variables": {"program": program["id"], "after": BEGINNING}}
    socket.send(id="1", type="subscribe", payload=follow)
    values: dict[str, Any] = {}
    while rows.keys() - values.keys():
        message = await socket.message()
        assert message["type"] == "next", message
        result = message["payload"]["data"]["executionUpdates"]["execution"]
        values[result["id"]] = result
    assert {key: values[key] for key in rows} == rows
    await socket.close()
