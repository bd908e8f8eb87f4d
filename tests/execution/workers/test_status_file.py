"""The status file of a process with workers."""

import asyncio
import os

import msgspec

from dspex.execution.workers import PoolStats
from dspex.execution.workers.orphans import start_time
from dspex.execution.workers.status_file import ProcessStatus, StatusPublisher, read_statuses
from tests.support.waiting import eventually


def stats(queued=0):
    return PoolStats(
        name="p", breaker="closed", queued=queued, answered=1, failed=0, rejected=0, restarts=0
    )


async def until(condition, folder):
    await eventually(lambda: condition(read_statuses(folder)), within=10)


def test_a_process_tells_of_its_pools_from_the_first_change_to_its_end(tmp_path, go):
    folder = tmp_path / "workers"

    async def main():
        pools = [stats()]
        async with StatusPublisher(folder, what="run") as publisher:
            publisher.pools = lambda: pools
            assert not folder.exists()
            publisher.schedule_write()
            await until(bool, folder)
            (status,) = read_statuses(folder)
            assert (status.pid, status.started, status.what) == (
                os.getpid(),
                start_time(os.getpid()),
                "run",
            )
            assert status.pools == (stats(),)
            pools[:] = [stats(queued=3)]
            publisher.schedule_write()
            await until(lambda statuses: statuses[0].pools[0].queued == 3, folder)
        assert read_statuses(folder) == []
        assert list(folder.iterdir()) == []

    go(main())


def test_what_dead_processes_left_is_removed_and_what_is_no_file_of_ours_is_passed_over(tmp_path):
    (tmp_path / "1-x.json").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    mine = {"pid": os.getpid(), "what": "serve", "updated_at": "2026-01-01T00:00:00Z"}
    alive = msgspec.convert({**mine, "started": start_time(os.getpid())}, ProcessStatus)
    # the pid now belongs to another process
    reused = msgspec.convert({**mine, "started": 1}, ProcessStatus)
    for name, status in (("2-1.json", alive), ("3-1.json", reused)):
        (tmp_path / name).write_bytes(msgspec.json.encode(status))
    assert read_statuses(tmp_path) == [alive]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1-x.json", "2-1.json", "notes.txt"]
    assert read_statuses(tmp_path / "nowhere") == []


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path, go):
    (tmp_path / "workers").write_text("a file")

    async def main():
        async with StatusPublisher(tmp_path / "workers", what="run") as publisher:
            publisher.schedule_write()
            publisher.tick()
            await asyncio.sleep(0)

    go(main())
