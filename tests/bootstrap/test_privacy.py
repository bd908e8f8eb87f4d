"""The state folder belongs to its owner alone."""

import os
import stat
from pathlib import Path

import pytest

from dspex.bootstrap import open_services
from dspex.errors import StorageError
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.vault import Vault
from dspex.settings import Settings
from tests.support.waiting import finish

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX"),
]


@pytest.fixture(autouse=True)
def _usual_mask() -> object:
    """The mask of most systems: everybody may read files without a mode."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def used(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Execute a program there.

    Return the messages, and the modes of all files while the database is open.
    """
    messages: list[str] = []

    async def work() -> dict[str, str]:
        async with open_services(
            Settings(state_dir=folder), say=messages.append, serves=True
        ) as services:
            operations = services.operations
            if not folder.with_name("made").exists():
                await create_program(
                    operations, CreateProgram(name="p", signature="q -> a", backend="mock")
                )
                folder.with_name("made").touch()
            await execute_program(operations, ExecuteProgram(program="p", inputs={"q": "?"}))
            operations.services[Vault].seal("secret", label="x")
            return modes_of(folder)

    return messages, finish(work())


def modes_of(folder: Path) -> dict[str, str]:
    paths = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode)) for path in paths}


def test_nobody_else_can_read_what_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / ".dspex"
    messages, modes = used(folder)
    assert messages[0].startswith("created ")
    assert {
        "dspex.sqlite3",
        "dspex.sqlite3-wal",
        "dspex.sqlite3-shm",
        "server.key",
        "workers",
    } <= modes.keys()
    assert {modes.pop("."), modes.pop("workers")} == {"0o700"}
    assert set(modes.values()) == {"0o600"}, modes


def test_a_folder_that_others_could_read_is_closed_with_a_note(tmp_path: Path) -> None:
    folder = tmp_path / ".dspex"
    used(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    messages, modes = used(folder)
    assert messages == [f"{folder}/ could be read by others; now only you can"]
    assert {mode for name, mode in modes.items() if name not in {".", "workers"}} == {"0o600"}
    assert modes["."] == "0o700"
    assert used(folder)[0] == []


def test_a_folder_with_other_things_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "notes.txt").touch(mode=0o644)
    _, modes = used(folder)
    assert (modes["."], modes["notes.txt"], modes["dspex.sqlite3"]) == ("0o755", "0o644", "0o600")


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="DSPEX_STATE_DIR"):
        used(tmp_path / "file" / ".dspex")
