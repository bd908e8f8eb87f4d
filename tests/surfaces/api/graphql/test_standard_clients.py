"""Clients that others wrote read the schema and use it, over real sockets and with a key."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport

from tests.surfaces.api.client import serving
from tests.surfaces.api.connections.wire import wired

pytestmark = pytest.mark.full
RUN = "mutation($input: ExecuteProgramInput!) { executeProgram(input: $input) { status } }"
FOLLOW = (
    'subscription { executionUpdates(after: "00000000-0000-7000-8000-000000000000") { execution { '
    "status } } }"
)


async def test_gql_reads_the_schema_checks_against_it_and_follows(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, wired(app=server.app) as wire:
        await server.give_program()
        headers = {"authorization": f"Bearer {await server.give_key('k', 'read', 'execute')}"}
        url = f"127.0.0.1:{wire.port}/graphql"
        http = AIOHTTPTransport(f"http://{url}", headers=headers)
        async with Client(transport=http, fetch_schema_from_transport=True) as session:
            run = gql(RUN)
            run.variable_values = {"input": {"name": "n", "inputs": {"q": "?"}}}
            assert (await session.execute(run))["executeProgram"]["status"] == "COMPLETED"
            with pytest.raises(Exception, match="Cannot query field 'nothing'"):
                await session.execute(gql("{ nothing }"))
        socket = WebsocketsTransport(f"ws://{url}", headers=headers)
        async with Client(transport=socket, fetch_schema_from_transport=True) as session:
            async for event in session.subscribe(gql(FOLLOW)):
                assert event["executionUpdates"]["execution"]["status"]
                break
        http = AIOHTTPTransport(f"http://{url}", headers=headers)
        async with Client(transport=http) as session:
            with pytest.raises(TransportQueryError, match="needs the scope 'admin'"):
                await session.execute(gql("{ auditEntries { totalCount } }"))


CODEGEN = {"graphql": "^16", "@graphql-codegen/cli": "^7", "@graphql-codegen/typescript": "^6"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
async def test_a_code_generator_reads_the_schema(tmp_path: Path) -> None:
    def generate(url: str, key: str) -> str:
        source = {url: {"headers": {"authorization": f"Bearer {key}"}}}
        generates = {"schema.ts": {"plugins": ["typescript"]}}
        (tmp_path / "codegen.json").write_text(
            json.dumps({"schema": [source], "generates": generates})
        )
        (tmp_path / "package.json").write_text(
            json.dumps({"private": True, "dependencies": CODEGEN})
        )
        options = {
            "cwd": tmp_path,
            "check": True,
            "capture_output": True,
            "text": True,
            "timeout": 400,
        }
        subprocess.run(
            [shutil.which("npm"), "install", "--no-audit", "--no-fund", "--silent"], **options
        )
        subprocess.run(
            [shutil.which("npx"), "graphql-codegen", "--config", "codegen.json"], **options
        )
        return (tmp_path / "schema.ts").read_text()

    async with serving(tmp_path) as server, wired(app=server.app) as wire:
        key = await server.give_key("k", "read")
        record = await asyncio.to_thread(generate, f"http://127.0.0.1:{wire.port}/graphql", key)
        assert "export type CreateProgramInput = {" in record
