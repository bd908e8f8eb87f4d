"""A server or a worker that cannot start says why in one line, and ends with 1."""

import json
from pathlib import Path

import pytest

from dspex.operations.storage import Database, migrate
from tests.support.command_server import run_dspex

pytestmark = pytest.mark.full
STARTS = (("serve", "--port", "0"), ("worker", "start"))


def refusal(folder: Path, *arguments: str, **variables: str) -> str:
    """Return the only line of a refused start, besides the one about the new state folder."""
    process = run_dspex(folder, *arguments, **variables)
    assert (process.returncode, process.stdout) == (1, ""), process
    [line] = [line for line in process.stderr.splitlines() if not line.startswith("created ")]
    return line


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start[0])
def test_what_only_opening_shows_is_one_line(tmp_path: Path, start: tuple[str, ...]) -> None:
    (tmp_path / "damaged").mkdir(mode=0o700)
    (tmp_path / "damaged" / "dspex.sqlite3").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "damaged" / "dspex.sqlite3").chmod(0o600)
    assert "set OPENAI_API_KEY" in refusal(
        tmp_path, *start, DSPEX_MODEL="openai/gpt-4o", OPENAI_API_KEY=""
    )
    assert "is damaged" in refusal(tmp_path, *start, DSPEX_STATE_DIR="damaged")
    removed = refusal(tmp_path, *start, DSPEX_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert "cannot read the database 'postgresql://nobody@127.0.0.1:1/none'" in removed


async def test_an_old_schema_is_refused_in_one_line_and_broken_to_the_doctor(
    tmp_path: Path, empty_postgres_url: str
) -> None:
    database = Database(empty_postgres_url)
    await migrate(database, to="0001")
    await database.aclose()
    for start in STARTS:
        line = refusal(tmp_path, *start, DSPEX_DATABASE_URL=empty_postgres_url)
        assert line.startswith("error: the database "), line
        assert "has schema 0001" in line
        assert line.endswith("run `dspex db migrate`")
    doctor = run_dspex(tmp_path, "doctor", "--json", DSPEX_DATABASE_URL=empty_postgres_url)
    data = next(finding for finding in json.loads(doctor.stdout) if finding["what"] == "database")
    assert (doctor.returncode, data["verdict"], data["fix"]) == (
        1,
        "broken",
        "run `dspex db migrate`",
    )
