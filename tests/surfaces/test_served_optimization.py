"""An optimization over GraphQL.

A job in the server's own worker, followed by subscription, ends in a version.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dspex.bootstrap import open_services
from dspex.settings import Secret, Settings
from dspex.testing import SimulatedModel
from dspex.testing.model_server import ModelServer
from tests.operations.jobs.rows import a_dataset, a_program
from tests.support.waiting import Child

pytestmark = pytest.mark.full
ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(30)]
OPTIMIZE = (
    "mutation($input: CreateOptimizationInput!) { createOptimization(input: $input) { id status } }"
)
UPDATES = """subscription($program: ID) { optimizationUpdates(programId: $program, after: $after) {
  payload optimizationJob { id status progress resultVersion { number madeBy } error }
} }""".replace("$after", '"{}"')
BEGINNING = "00000000-0000-7000-8000-000000000000"
CURRENT = '{ program(name: "qa") { currentVersion { number madeBy } } }'


async def updates(session: aiohttp.ClientSession, program: str) -> AsyncIterator[dict[str, Any]]:
    """Every update of the program's jobs, as server-sent events."""
    request = {"query": UPDATES.replace("{}", BEGINNING), "variables": {"program": program}}
    async with session.post("/graphql/stream", json=request) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"data:") and (text := line[5:].strip()):
                data = json.loads(text)
                assert "errors" not in data, data
                yield data["data"]["optimizationUpdates"]


async def followed(url: str, program: str) -> list[dict[str, Any]]:
    """Begin the optimization and return all that the subscription reports."""
    values = {
        "program": "qa",
        "dataset": "questions",
        "configuration": {"options": {"candidates": 3, "k": 4}, "insist": True},
    }
    async with aiohttp.ClientSession(url) as session:

        async def ask(query: str, **variables: Any) -> Any:
            async with session.post(
                "/graphql", json={"query": query, "variables": variables}
            ) as answer:
                return (await answer.json())["data"]

        job = (await ask(OPTIMIZE, input=values))["createOptimization"]
        assert job["status"] == "QUEUED"
        collected = []
        async for update in updates(session, program):
            collected.append(update)
            if update["optimizationJob"]["status"] in {"COMPLETED", "FAILED"}:
                break
        version = (await ask(CURRENT))["program"]["currentVersion"]
        last = collected[-1]["optimizationJob"]
        assert last["id"] == job["id"]
        assert last["status"] == "COMPLETED", last["error"]
        assert last["resultVersion"] == version
        assert version["number"] == 2
        assert version["madeBy"] != "user"
    return collected


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
async def test_an_optimization_asked_for_by_graphql_tells_its_progress_and_ends_in_a_version(
    tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    link = request.getfixturevalue("postgres_url") if database == "postgres" else None

    settings = Settings(state_dir=tmp_path / ".dspex", database_url=Secret(link) if link else None)
    async with open_services(settings) as services:
        program = await a_program(services.operations.dependencies.store, backend="native")
        await a_dataset(services.operations.dependencies.store, ROWS)
    async with ModelServer({"m": SimulatedModel()}) as models:
        environment = {**os.environ, "DSPEX_MODEL": f"{models.url}#m"}
        if link is not None:
            environment["DSPEX_DATABASE_URL"] = link
        command = [sys.executable, "-m", "dspex", "serve", "--port", "0", "--worker"]
        with Child(command, cwd=tmp_path, env=environment) as child:
            line = await asyncio.to_thread(child.wait_for_line, "serving http")
            url = re.search(r"http://[\d.:]+", line)
            assert url is not None
            collected = await followed(url[0], str(program.id))
            await asyncio.to_thread(child.stop)
    items = [
        update["payload"]["progress"] for update in collected if update["payload"].get("progress")
    ]
    assert items
    assert any(progress.get("trials") for progress in items)
