"""What callers see of a failure in the user's code: admins its lines, others none."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.execution.modules import CodeRoot
from dspex.operations.programs.stored_programs import save_program
from tests.surfaces.api.client import Server, serving

SOURCE = """
import dspex

@dspex.program
def look(text: str) -> str:
    return {}[text]
"""
CODE = "return {}[text]"
FRAME = {"file": "api_shop.py", "line": 6, "function": "look", "code": CODE}


async def _rest_answers(server: Server, key: str) -> list[Any]:
    """Return the failed execution from the call, the list, and by its id."""
    body = {"inputs": {"text": "a"}}
    call = await server.ask("POST", "/v1/programs/look/execute", key=key, body=body)
    action = await server.ask(
        "POST",
        "/v1/actions/execute_program",
        key=key,
        body={"name": "look", "inputs": {"text": "a"}},
    )
    page = await server.ask("GET", "/v1/executions", key=key)
    row = await server.ask("GET", f"/v1/executions/{call.json['id']}", key=key)
    return [call.json, action.json, *page.json["executions"], row.json]


async def test_lines_of_code_are_for_admins_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "api_shop.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    code = CodeRoot(tmp_path)
    query = "{ executions { nodes { error trace program { name } } } }"
    try:
        async with serving(tmp_path, code=code) as server:
            program = code.load("api_shop:look").to_program("look")
            await save_program(server.services.operations, program)
            await server.give_key("boss", "admin")
            await server.give_key("user", "execute", "read")
            message = "the program failed: KeyError: 'a' (api_shop.py:6 in look)"
            for answer in await _rest_answers(server, "user"):
                assert answer["error"]["message"] == message
                assert CODE not in json.dumps(answer)
                assert "frames" not in json.dumps(answer)
            for answer in await _rest_answers(server, "boss"):
                assert answer["error"]["frames"] == [FRAME]
                assert answer["trace"]["spans"][0]["attributes"]["frames"] == [FRAME]
                assert str(tmp_path) not in json.dumps(answer)
            [row, *_] = (await server.graphql(query, key="user"))["data"]["executions"]["nodes"]
            assert "frames" not in json.dumps(row)
            [row, *_] = (await server.graphql(query, key="boss"))["data"]["executions"]["nodes"]
            assert row["error"]["frames"] == [FRAME]
            assert row["trace"]["spans"][0]["attributes"]["frames"] == [FRAME]
    finally:
        sys.modules.pop("api_shop", None)
