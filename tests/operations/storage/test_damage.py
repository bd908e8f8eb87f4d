"""A SQLite file that is damaged, and a disk that is really full.

Said in a sentence, and never a wrong answer.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dspex.errors import StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Insert, Query
from dspex.operations.storage import Database, SQLStore
from dspex.testing.store import signature
from tests.support.postgres import migrated
from tests.support.waiting import Child

SIGNATURE = DOMAIN["signature"]
ROOT = Path(__file__).parents[3]
ROWS = 200
MOUNT, UMOUNT = "/usr/bin/mount", "/usr/bin/umount"


def overwrite(file: Path, first: float, last: float) -> None:
    """Fill a part of a file with what no database writes.

    The part goes from one share of its length to another.
    """
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.seek(int(size * first))
        handle.write(b"\xa5" * int(size * (last - first)))


def replace_with_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda file: file.write_bytes(b"these are the notes of a meeting\n" * 400),
    "a broken head": lambda file: overwrite(file, 0.0, 0.001),
    "broken pages": lambda file: overwrite(file, 0.2, 0.9),
    "half of it": lambda file: os.truncate(file, file.stat().st_size // 2),
    "nothing": lambda file: os.truncate(file, 0),
    "a folder": replace_with_folder,
}


@asynccontextmanager
async def opened(file: Path) -> AsyncIterator[SQLStore]:
    database = Database.embedded(file)
    try:
        yield SQLStore(database, DOMAIN)
    finally:
        await database.aclose()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_file_is_refused_and_its_copy_serves_again(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    file, copy = tmp_path / "db", tmp_path / "copy"

    migrated(f"sqlite+aiosqlite:///{file}")
    async with opened(file) as store:
        await store.write(
            *(Insert(signature(version=n, instructions="x" * 3000)) for n in range(ROWS))
        )
    shutil.copy(file, copy)
    damage(file)
    async with opened(file) as store:
        with pytest.raises(StorageError, match=r"damaged|migrate|does not exist"):
            await store.select(SIGNATURE, Query(limit=1000))
        with pytest.raises(StorageError):
            # taken already, if its index could be read
            await store.write(Insert(signature(version=1)))
    if file.is_dir():
        file.rmdir()
    for rest in tmp_path.glob("db-*"):
        rest.unlink()
    shutil.copy(copy, file)
    async with opened(file) as store:
        assert await store.count(SIGNATURE, {}) == ROWS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a separate file system with room for two MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [MOUNT, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if (
        os.geteuid() != 0
        or not Path(MOUNT).exists()
        or subprocess.run(command, capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("only who may mount file systems can fill one")
    yield folder
    subprocess.run([UMOUNT, "-l", str(folder)], check=True)


@pytest.mark.bridge
async def test_a_disk_that_fills_up_keeps_what_was_acknowledged_and_serves_when_there_is_room(
    small_disk: Path,
) -> None:
    url = f"sqlite+aiosqlite:///{small_disk / 'db'}"
    migrated(url)
    script = ROOT / "tests" / "support" / "writing_rows.py"
    with Child([sys.executable, str(script), url, "0", "10000"], cwd=ROOT) as child:
        child.wait_for_line("refused: cannot write the database")
    acknowledged = {int(line) for line in child.seen if line.isdigit()}
    assert acknowledged
    subprocess.run([MOUNT, "-o", "remount,size=16m", str(small_disk)], check=True)

    async with opened(small_disk / "db") as store:
        await store.write(Insert(signature(version=20_000)))
        rows = await store.select(SIGNATURE, Query(limit=100_000))
        assert acknowledged | {20_000} <= {row.version for row in rows}
