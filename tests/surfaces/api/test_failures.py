"""What callers see of a failure in the user's code: admins its lines, others none."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query, Update
from dspex.operations.programs.stored_programs import save_program
from tests.operations.jobs.rows import a_job
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
        body={"program": "look", "inputs": {"text": "a"}},
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


async def test_lines_in_jobs_and_in_their_rows_are_for_admins_only(tmp_path: Path) -> None:
    error = {"code": "failed", "message": "KeyError: 'a'"}
    row = {"index": 0, "error": "KeyError: 'a'"}
    query = "{ evaluations { nodes { error rows } } }"
    async with serving(tmp_path) as server:
        await a_job(
            server.services.operations.dependencies.store,
            error={**error, "frames": [FRAME]},
            status="failed",
        )
        key = (await server.services.operations.list(DOMAIN["evaluation"], Query()))[0].id
        values = {"rows": [{**row, "frames": [FRAME]}]}
        await server.services.operations.store.write(
            Update(resource=DOMAIN["evaluation"], id=key, values=values)
        )
        await server.give_key("boss", "admin")
        await server.give_key("user", "read")
        for name, frames in (("boss", {"frames": [FRAME]}), ("user", {})):
            one = (await server.ask("GET", f"/v1/evaluations/{key}", key=name)).json
            [node] = (await server.graphql(query, key=name))["data"]["evaluations"]["nodes"]
            assert one["error"] == node["error"] == {**error, **frames}
            assert one["rows"] == node["rows"] == [{**row, **frames}]


async def test_a_failed_import_of_a_program_has_its_lines_for_admins_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "api_draft.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    code = CodeRoot(tmp_path)
    try:
        async with serving(tmp_path, code=code) as server:
            operations = server.services.operations
            program = code.load("api_draft:look").to_program("look")
            record = await save_program(operations, program)
            draft = Update(resource=DOMAIN["program"], id=record.id, values={"status": "draft"})
            await operations.store.write(draft)
            sys.modules.pop("api_draft")
            file.write_text("import dspex\n\nRATES = {}['rates']\n")
            await server.give_key("boss", "admin")
            await server.give_key("user", "read")
            body = {"name": "look"}
            answer = await server.ask(
                "POST", "/v1/actions/initialize_program", key="boss", body=body
            )
            frame = {"file": "api_draft.py", "line": 3, "function": "<module>"}
            frame |= {"code": "RATES = {}['rates']"}
            assert answer.json["status"] == "error"
            assert answer.json["error"]["frames"] == [frame]
            row = await server.ask("GET", f"/v1/programs/{record.id}", key="user")
            assert row.json["error"] == {
                name: value for name, value in answer.json["error"].items() if name != "frames"
            }
    finally:
        sys.modules.pop("api_draft", None)
