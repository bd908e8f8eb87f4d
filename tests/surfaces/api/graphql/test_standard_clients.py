"""Clients that others wrote read the schema and use it, over real sockets and with a key."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport

from dspex.operations.collections.inputs import CreateCollection
from tests.surfaces.api.client import serving
from tests.surfaces.api.connections.wire import wired

pytestmark = pytest.mark.full
RUN = (
    "mutation Execute($input: ExecuteProgramInput!) { executeProgram(input: $input) { status "
    "outputs } }"
)
ADD = (
    'mutation { addDocuments(input: {collection: "c", documents: [{key: "a", text: "lamp"}]}) '
    "{ id status } }"
)
PAUSE = "mutation Pause($id: UUID!) { pauseIngestion(input: {id: $id}) { status } }"
FOLLOW_INGESTIONS = (
    'subscription { ingestionUpdates(after: "00000000-0000-7000-8000-000000000000") '
    "{ ingestion { id status operation collection { name } } payload } }"
)
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
            run.variable_values = {"input": {"program": "n", "inputs": {"q": "?"}}}
            execution = (await session.execute(run))["executeProgram"]
            assert (execution["status"], type(execution["outputs"]["n"])) == ("COMPLETED", int)
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


async def test_gql_follows_an_ingestion_while_it_is_added_and_paused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, wired(app=server.app) as wire:
        await server.perform("create_collection", CreateCollection(name="c", embedder="none"))
        headers = {"authorization": f"Bearer {await server.give_key('k', 'read', 'write')}"}
        url = f"127.0.0.1:{wire.port}/graphql"
        http = AIOHTTPTransport(f"http://{url}", headers=headers)
        socket = WebsocketsTransport(f"ws://{url}", headers=headers)
        async with (
            Client(transport=http, fetch_schema_from_transport=True) as session,
            Client(transport=socket, fetch_schema_from_transport=True) as follower,
        ):
            job = (await session.execute(gql(ADD)))["addDocuments"]
            events = follower.subscribe(gql(FOLLOW_INGESTIONS))
            event = (await anext(events))["ingestionUpdates"]
            assert event["payload"]["status"] == job["status"].lower() == "queued"
            assert event["ingestion"]["id"] == job["id"]
            assert event["ingestion"]["collection"] == {"name": "c"}
            pause = gql(PAUSE)
            pause.variable_values = {"id": job["id"]}
            assert await session.execute(pause) == {"pauseIngestion": {"status": "PAUSED"}}
            event = (await anext(events))["ingestionUpdates"]
            assert (event["payload"]["status"], event["ingestion"]["status"]) == (
                "paused",
                "PAUSED",
            )
            await events.aclose()


PACKAGES = {
    "@graphql-codegen/cli": "^7",
    "@graphql-codegen/typescript": "^6",
    "@graphql-codegen/typescript-operations": "^6",
    "graphql": "^16",
    "typescript": "^5",
}
COMPILER = {
    "module": "nodenext", "target": "es2022", "strict": True, "lib": ["es2022", "dom"],
    "types": [], "outDir": "out",
}  # fmt: skip
SOURCES = ["call.ts", "operations.ts", "schema.ts"]
CALL = """
import type { ExecuteMutation, ExecuteMutationVariables } from "./operations.js";

declare const process: { argv: string[] };
const [, , url, key, query] = process.argv;
const variables: ExecuteMutationVariables = { input: { program: "n", inputs: { q: "?" } } };
const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
const body = JSON.stringify({ query, variables });
const reply = await fetch(url, { method: "POST", headers, body });
const { data } = (await reply.json()) as { data: ExecuteMutation };
console.log(data.executeProgram?.status, data.executeProgram?.outputs.n);
// @ts-expect-error: not selected
data.executeProgram?.durationMs;
// @ts-expect-error: required
const missing: ExecuteMutationVariables = { input: { program: "n" } };
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
async def test_a_code_generator_reads_the_schema_and_types_an_operation(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        path = shutil.which(command[0]) or command[0]
        process = subprocess.run(
            [path, *command[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def generate_and_call(url: str, key: str) -> str:
        source = {url: {"headers": {"authorization": f"Bearer {key}"}}}
        generates = {
            "schema.ts": {"plugins": ["typescript"]},
            "operations.ts": {"plugins": ["typescript-operations"]},
        }
        files = {
            "codegen.json": {
                "schema": [source],
                "documents": "run.graphql",
                "generates": generates,
                "config": {"scalars": {"JSON": "any"}, "useTypeImports": True},
            },
            "package.json": {"private": True, "type": "module", "dependencies": PACKAGES},
            "tsconfig.json": {"compilerOptions": COMPILER, "files": SOURCES},
        }
        for name, content in files.items():
            (tmp_path / name).write_text(json.dumps(content))
        (tmp_path / "run.graphql").write_text(RUN)
        (tmp_path / "call.ts").write_text(CALL)
        run("npm", "install", "--no-audit", "--no-fund", "--silent")
        run("npx", "graphql-codegen", "--config", "codegen.json")
        run("npx", "tsc")
        return run("node", "out/call.js", url, key, RUN)

    async with serving(tmp_path) as server, wired(app=server.app) as wire:
        await server.give_program()
        key = await server.give_key("k", "read", "execute")
        url = f"http://127.0.0.1:{wire.port}/graphql"
        status, number = (await asyncio.to_thread(generate_and_call, url, key)).split()
    assert "export type CreateProgramInput = {" in (tmp_path / "schema.ts").read_text()
    assert status == "COMPLETED"
    assert re.fullmatch(r"-?\d+", number)
