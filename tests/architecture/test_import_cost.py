"""What `import dspex` may cost: a budget against what its users import anyway."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bridge
FORBIDDEN = [
    "aiohttp",
    "sqlalchemy",
    "strawberry",
    "starlette",
    "dbos",
    "click",
    "rich",
    "numpy",
    "optuna",
    "dspy",
    "mcp",
    "alembic",
    "uvicorn",
    "jsonschema_rs",
]
YARDSTICK = "from pydantic import BaseModel, create_model, TypeAdapter; import msgspec, asyncio"
PROGRAM = (
    "import dspex\nclass QA(dspex.Signature):\n    q: str\n    a: str = dspex.Output()\np = "
    "dspex.Predict(QA)"
)
MEASURE = """
import resource, sys, json
{work}
used = resource.getrusage(resource.RUSAGE_SELF)
cpu = used.ru_utime + used.ru_stime
print(json.dumps({{"cpu": cpu, "kib": used.ru_maxrss, "modules": sorted(sys.modules)}}))
"""


def _measured(work: str, runs: int = 5) -> dict:
    rows = []
    for _ in range(runs):
        code = MEASURE.format(work=work)
        process = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        rows.append(json.loads(process.stdout))
    return {
        "cpu": min(item["cpu"] for item in rows),
        "kib": min(item["kib"] for item in rows),
        "modules": rows[0]["modules"],
    }


def test_importing_dspex_costs_little_more_than_what_it_stands_on() -> None:
    yardstick, ours = _measured(YARDSTICK), _measured("import dspex")
    assert ours["cpu"] <= 1.5 * yardstick["cpu"]
    assert ours["kib"] - yardstick["kib"] <= 8 * 1024


def test_neither_import_nor_declaring_a_program_loads_what_only_some_need() -> None:
    for work in ("import dspex", PROGRAM):
        loaded = {name.partition(".")[0] for name in _measured(work, runs=1)["modules"]}
        assert not loaded & set(FORBIDDEN)


LIST = """
import sys
from dspex.surfaces.cli import main
try:
    main(["execution", "list"])
except SystemExit as end:
    assert not end.code
print(" ".join(sys.modules))
"""


def test_commands_that_read_import_little(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        command = [sys.executable, *words]
        process = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        return process.stdout

    create = ("program", "create", "capitals", "question -> answer", "--backend", "mock")
    run("-m", "dspex", *create)
    run("-m", "dspex", "run", "capitals", "question=Lima?")
    rows, modules = run("-c", LIST).rstrip().rsplit("\n", 1)
    assert "Lima?" in rows
    others = {
        "pydantic_core",
        "sqlalchemy",
        "alembic",
        "starlette",
        "strawberry",
        "dbos",
        "dspex.learning.optimizers",
    }
    assert not others & set(modules.split())
