"""Clients that others' generators make of the description call a program with its types."""

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.surfaces.api.client import serving
from tests.surfaces.api.connections.wire import wired

pytestmark = [pytest.mark.full, pytest.mark.slow]
PACKAGES = {"openapi-fetch": "^0.17", "openapi-typescript": "^7", "typescript": "^5"}
COMPILER = {
    "module": "nodenext", "target": "es2022", "strict": True, "lib": ["es2022", "dom"],
    "types": [], "outDir": "out",
}  # fmt: skip
TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };
const [, , baseUrl, key] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${key}` } });
const path = "/v1/programs/triage/execute";
const { data, error } = await client.POST(path, { body: { inputs: { message: "?" } } });
if (error) throw new Error(error.error.message);
const count: number | undefined = data.outputs?.count;
const kind: "a" | "b" | undefined = data.outputs?.kind;
console.log(JSON.stringify({ status: data.status, count, kind }));
const { data: page } = await client.GET("/v1/executions", { params: { query: { first: 1 } } });
console.log(page?.executions[0]?.id === data.id);
const { error: refusal } = await client.POST("/v1/actions/archive_program", { body: {} });
console.log(refusal?.error.type);

async function mistakes() {
  // @ts-expect-error: a text
  await client.POST(path, { body: { inputs: { message: 3 } } });
  // @ts-expect-error: required
  await client.POST(path, { body: { inputs: {} } });
  // @ts-expect-error: not an output
  data?.outputs?.nothing;
}
"""
PYTHON = """
import sys
from client import AuthenticatedClient
from client.api.execute import execute_triage
from client.models.execute_triage_body import ExecuteTriageBody
from client.models.triage_execution import TriageExecution
from client.models.triage_inputs import TriageInputs

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
body = ExecuteTriageBody(inputs=TriageInputs(message="?"))
execution = execute_triage.sync(client=client, body=body)
assert isinstance(execution, TriageExecution), execution
assert execution.outputs is not None
count: int = execution.outputs.count
print(execution.status.value, count, execution.outputs.kind.value)
"""
WRONG_PYTHON = """
from client.models.triage_inputs import TriageInputs
from client.models.triage_outputs import TriageOutputs

TriageInputs(message=3)
def length(outputs: TriageOutputs) -> int:
    return len(outputs.count)
"""


@dataclass(frozen=True, slots=True)
class Api:
    """A server on a socket: its address, and a key that reads and executes."""

    url: str
    key: str


@asynccontextmanager
async def described_api(folder: Path) -> AsyncIterator[Api]:
    """Yield a server with one program, whose description is in `openapi.json`."""
    async with serving(folder) as server, wired(app=server.app) as wire:
        await server.give_key("author", "write")
        key = await server.give_key("k", "read", "execute")
        request = {
            "name": "triage",
            "signature": "message, urgency: int = 1 -> count: int, kind: atom['a', 'b']",
            "backend": "mock",
        }
        created = await server.ask("POST", "/v1/actions/create_program", key="author", body=request)
        assert created.status == 200, created.body
        api = Api(f"http://127.0.0.1:{wire.port}", key)
        await asyncio.to_thread(_read_description, api, folder / "openapi.json")
        yield api


def _read_description(api: Api, target: Path) -> None:
    headers = {"authorization": f"Bearer {api.key}"}
    request = urllib.request.Request(f"{api.url}/v1/openapi.json", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        target.write_bytes(answer.read())


def run(*command: str, cwd: Path, code: int = 0) -> str:
    """Return the output of a command that has to end with `code`."""
    path = shutil.which(command[0]) or command[0]
    process = subprocess.run(
        [path, *command[1:]], cwd=cwd, capture_output=True, text=True, timeout=400, check=False
    )
    output = process.stdout + process.stderr
    assert process.returncode == code, output
    return output


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
async def test_typescript_checks_inputs_and_outputs_of_a_program(tmp_path: Path) -> None:
    def generate_and_call(api: Api) -> list[str]:
        package = {"private": True, "type": "module", "dependencies": PACKAGES}
        (tmp_path / "package.json").write_text(json.dumps(package))
        options = {"compilerOptions": COMPILER, "files": ["call.ts", "schema.ts"]}
        (tmp_path / "tsconfig.json").write_text(json.dumps(options))
        (tmp_path / "call.ts").write_text(TYPESCRIPT)
        run("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=tmp_path)
        run("npx", "openapi-typescript", "openapi.json", "-o", "schema.ts", cwd=tmp_path)
        run("npx", "tsc", cwd=tmp_path)
        return run("node", "out/call.js", api.url, api.key, cwd=tmp_path).splitlines()

    async with described_api(tmp_path) as api:
        outputs, is_listed, refusal = await asyncio.to_thread(generate_and_call, api)
    values = json.loads(outputs)
    assert (values["status"], type(values["count"])) == ("completed", int)
    assert values["kind"] in {"a", "b"}
    assert (is_listed, refusal) == ("true", "ForbiddenError")


@pytest.mark.skipif(
    importlib.util.find_spec("openapi_python_client") is None, reason="pip install 'dspex[dev]'"
)
async def test_python_checks_inputs_and_outputs_of_a_program(tmp_path: Path) -> None:
    def generate_and_call(api: Api) -> str:
        generator = (sys.executable, "-m", "openapi_python_client", "generate")
        options = ("--path", "openapi.json", "--output-path", "client", "--meta", "none")
        (tmp_path / "config.yml").write_text("post_hooks: []\n")
        report = run(*generator, *options, "--config", "config.yml", cwd=tmp_path)
        assert "arning" not in report, report
        (tmp_path / "call.py").write_text(PYTHON)
        (tmp_path / "wrong.py").write_text(WRONG_PYTHON)
        check = (sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent")
        run(*check, "call.py", cwd=tmp_path)
        errors = run(*check, "wrong.py", cwd=tmp_path, code=1)
        assert errors.count(" error: ") == 2, errors
        return run(sys.executable, "call.py", api.url, api.key, cwd=tmp_path)

    async with described_api(tmp_path) as api:
        status, count, kind = (await asyncio.to_thread(generate_and_call, api)).split()
    assert status == "completed"
    assert re.fullmatch(r"-?\d+", count)
    assert kind in {"a", "b"}
