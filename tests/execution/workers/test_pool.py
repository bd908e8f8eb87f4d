import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from dspex.errors import (
    CircuitOpenError,
    ExecutionError,
    PoolExhaustedError,
    PoolRestingError,
    WorkerError,
    WorkerLostError,
    WorkerStartError,
    WorkerTimeoutError,
)
from dspex.execution.workers import (
    BreakerConfig,
    ChildSpec,
    Intensity,
    LoadRequest,
    Pool,
    PoolConfig,
    WorkerSupervisor,
)
from dspex.execution.workers.orphans import RUN_VARIABLE, run_mark, sweep
from dspex.telemetry import Collecting
from dspex.testing import fake_child
from dspex.testing.processes import fake_worker, is_alive, open_resources, wait_until_ended
from tests.support.waiting import eventually

pytestmark = pytest.mark.bridge


@asynccontextmanager
async def open_pool(*, spec=None, observer=None, **options):
    """Open a pool, and check afterwards that no child, zombie or descriptor is left."""
    before = open_resources()
    config = PoolConfig(name="p", **{"intensity": Intensity(restarts=100), **options})
    async with (
        asyncio.timeout(20),
        Pool(config, spec or fake_worker(), observer=observer) as pool,
    ):
        yield pool
    await asyncio.sleep(0)
    assert open_resources() == before


async def test_a_crash_fails_only_what_its_worker_held_and_the_next_call_waits_for_no_start():
    async with open_pool(minimum=2, maximum=2, spares=1) as pool:
        await eventually(lambda: [w.state for w in pool.stats().workers] == ["ready"] * 3)
        started = {w.pid for w in pool.stats().workers}
        long_call = asyncio.create_task(pool.call("sleep", {"seconds": 0.3}))
        await asyncio.sleep(0)
        with pytest.raises(WorkerLostError):
            await pool.call("crash", {})
        assert await pool.call("echo", {"n": 1}) == {"n": 1}
        assert {w.pid for w in pool.stats().workers if w.role == "serving"} < started
        assert await long_call == {"seconds": 0.3}
        await eventually(lambda: [w.state for w in pool.stats().workers] == ["ready"] * 3)
        assert pool.stats().restarts == 1
        assert Counter(w.role for w in pool.stats().workers) == {"serving": 2, "spare": 1}


async def test_calls_wait_in_order_and_a_full_queue_says_so():
    async with open_pool(queue_limit=3) as pool:
        order = []

        async def call(n):
            await pool.call("sleep", {"seconds": 0.05})
            order.append(n)

        calls = [asyncio.create_task(call(n)) for n in range(4)]
        await asyncio.sleep(0)
        assert pool.stats().queued == 3
        with pytest.raises(PoolExhaustedError, match="3 calls already waiting") as caught:
            await pool.call("echo", {})
        assert caught.value.is_retryable
        await asyncio.gather(*calls)
        assert order == [0, 1, 2, 3]
        assert (pool.stats().answered, pool.stats().rejected) == (4, 1)


async def test_a_deadline_counts_in_the_queue_too_and_a_caller_who_leaves_takes_no_slot():
    async with open_pool() as pool:
        long_call = asyncio.create_task(pool.call("sleep", {"seconds": 0.3}))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(pool.call("echo", {}))
        with pytest.raises(PoolExhaustedError, match="by the deadline"):
            await pool.call("echo", {}, seconds=0.05)
        leaving.cancel()
        await long_call
        assert await pool.call("echo", {"n": 1}, seconds=1) == {"n": 1}
        assert pool.stats().queued == 0


async def test_a_pool_grows_while_calls_wait_and_shrinks_when_idle():
    async with open_pool(maximum=3, idle_seconds=0.8, health_seconds=0.05) as pool:
        await asyncio.gather(*(pool.call("sleep", {"seconds": 0.3}) for _ in range(6)))
        assert len(pool.stats().workers) == 3
        await eventually(lambda: len(pool.stats().workers) == 1)


async def test_a_program_is_created_once_on_each_worker_and_calls_go_where_it_is():
    async with open_pool(minimum=2, maximum=2) as pool:

        def run(handle):
            return pool.call(
                "programs", {}, program=LoadRequest(handle=handle, args={"name": handle})
            )

        assert [await run("a") for _ in range(5)] == [["a"]] * 5
        busy = asyncio.create_task(pool.call("sleep", {"seconds": 0.1}))
        await asyncio.sleep(0)
        first = await run("b")
        await busy
        assert await run("b") == first


async def test_a_stopped_worker_misses_its_pings_and_is_replaced_while_a_busy_one_is_not():
    async with open_pool(minimum=2, maximum=2, health_seconds=0.1) as pool:
        spinning = asyncio.create_task(pool.call("spin", {}))
        await eventually(lambda: any(w.busy for w in pool.stats().workers))
        victim = next(w for w in pool.stats().workers if not w.busy)
        os.kill(victim.pid, signal.SIGSTOP)
        call = asyncio.create_task(pool.call("echo", {}))
        with pytest.raises(WorkerLostError, match="missed 3 pings"):
            await call
        await eventually(lambda: all(w.state == "ready" for w in pool.stats().workers))
        assert not spinning.done()
        assert [w.restarts for w in pool.stats().workers if w.busy] == [0]
        spinning.cancel()


async def test_memory_above_the_ceiling_drains_and_far_above_kills():
    async def _leak(pool):
        await pool.call("leak", {"bytes": 200 << 20})
        await asyncio.Event().wait()

    spec = fake_worker(memory_limit=64 << 20, concurrency=2)
    async with open_pool(spec=spec, health_seconds=0.3, intensity=Intensity(restarts=0)) as pool:
        await pool.call("leak", {"bytes": 60 << 20})
        await eventually(lambda: pool.stats().restarts == 1)
        assert all(worker.memory < 50 << 20 for worker in pool.stats().workers)
        with pytest.raises(WorkerLostError, match="MiB of memory"):
            await asyncio.gather(pool.call("hang", {}), _leak(pool))
        await eventually(lambda: [w.state for w in pool.stats().workers] == ["ready"])


async def test_a_worker_is_replaced_after_so_many_requests_and_no_call_notices():
    async with open_pool(
        spec=fake_worker(request_limit=5), spares=1, intensity=Intensity(restarts=0)
    ) as pool:
        answers = await asyncio.gather(*(pool.call("echo", {"n": n}) for n in range(20)))
        assert [answer["n"] for answer in answers] == list(range(20))
        assert pool.stats().restarts >= 2
        assert pool.stats().failed == 0


async def test_failures_in_a_row_open_the_circuit_and_one_crash_is_one_failure():
    async with open_pool(
        spec=fake_worker(concurrency=8), breaker=BreakerConfig(failures=3)
    ) as pool:
        for _ in range(2):
            calls = [pool.call("sleep", {"seconds": 9}) for _ in range(7)]
            await asyncio.gather(*calls, pool.call("crash", {}), return_exceptions=True)
            assert pool.stats().breaker == "closed"
        with pytest.raises(WorkerLostError):
            await pool.call("crash", {})
        with pytest.raises(CircuitOpenError):
            await pool.call("echo", {})


async def test_an_answer_closes_the_circuit_also_where_it_is_an_error():
    async with open_pool(breaker=BreakerConfig(failures=2)) as pool:
        for _ in range(4):
            with pytest.raises(WorkerLostError):
                await pool.call("crash", {})
            with pytest.raises(ExecutionError, match="no luck"):
                await pool.call("raise", {"message": "no luck"})
        assert pool.stats().breaker == "closed"


async def test_a_pool_that_shrank_by_another_worker_than_its_newest_grows_again():
    class Slow(random.Random):
        """A random source that delays the second restart until after the test."""

        def uniform(self, a, b):
            return 1000.0

    config = PoolConfig(
        name="p",
        maximum=2,
        idle_seconds=0,
        health_seconds=1000,
        breaker=BreakerConfig(failures=9),
    )
    async with asyncio.timeout(20), Pool(config, fake_worker(), rng=Slow()) as pool:
        await asyncio.gather(*(pool.call("sleep", {"seconds": 0.2}) for _ in range(4)))
        first, newest = (worker.pid for worker in pool.stats().workers)
        os.kill(newest, signal.SIGKILL)
        await eventually(
            lambda: [w.pid not in {first, newest} for w in pool.stats().workers] == [False, True]
        )
        os.kill(pool.stats().workers[1].pid, signal.SIGKILL)
        await eventually(lambda: [w.pid for w in pool.stats().workers] == [first])
        await pool.tick()
        assert pool.stats().workers == ()
        assert await pool.call("echo", {"n": 1}) == {"n": 1}


async def test_an_error_that_many_calls_meet_does_not_grow_with_them():
    pool = Pool(PoolConfig(name="p"), fake_worker())
    await pool.stop()
    errors = [
        (await asyncio.gather(pool.call("echo", {}), return_exceptions=True))[0] for _ in range(3)
    ]
    assert {str(error) for error in errors} == {"pool 'p' has ended"}
    assert len(set(map(id, errors))) == 3


async def test_a_pool_whose_workers_keep_crashing_rests_says_why_and_starts_again():
    async with open_pool(intensity=Intensity(restarts=2), rest_seconds=0.3) as pool:
        for _ in range(3):
            with pytest.raises(WorkerLostError):
                await pool.call("crash", {})
        waiting = asyncio.create_task(pool.call("echo", {}))
        with pytest.raises(PoolRestingError, match="failed more than 2 times in 60 s"):
            await waiting
        with pytest.raises(PoolRestingError) as caught:
            await pool.call("echo", {})
        assert caught.value.is_retryable
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= 0.3
        await eventually(lambda: [worker.state for worker in pool.stats().workers] == ["ready"])
        assert await pool.call("echo", {"n": 1}) == {"n": 1}
        assert pool.stats().restarts == 2


async def test_calls_that_do_not_stop_cost_their_worker_and_nobody_else():
    spec = fake_worker(cancel_seconds=0.05)
    async with open_pool(
        spec=spec, intensity=Intensity(restarts=0), breaker=BreakerConfig(failures=1)
    ) as pool:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.call("stubborn", {}), 0.05)
            assert await pool.call("echo", {"n": 1}, seconds=5) == {"n": 1}
        assert pool.stats().restarts == 3
        assert pool.stats().breaker == "closed"


async def test_a_timeout_names_the_time_that_was_asked_for():
    async with open_pool() as pool:
        long_call = asyncio.create_task(pool.call("sleep", {"seconds": 0.2}))
        await asyncio.sleep(0)
        with pytest.raises(
            WorkerTimeoutError, match=r"pool 'p' did not answer 'sleep' within 0\.45 s"
        ):
            await pool.call("sleep", {"seconds": 9}, seconds=0.45)
        await long_call


async def test_a_pool_whose_interpreter_does_not_exist_does_not_open_and_leaves_nothing():
    before = open_resources()
    spec = replace(fake_worker(), interpreter="/no/python")
    with pytest.raises(
        WorkerStartError, match=r"'/no/python' could not be started.*name a Python executable"
    ):
        async with asyncio.timeout(10), Pool(PoolConfig(name="p", spares=1), spec):
            pass
    assert open_resources() == before


async def test_waiting_calls_fail_while_the_interpreter_is_gone_and_run_when_it_is_back(
    tmp_path,
):
    interpreter = tmp_path / "python"
    interpreter.symlink_to(sys.executable)

    spec = replace(fake_worker(), interpreter=str(interpreter))
    async with open_pool(spec=spec, intensity=Intensity(restarts=1), rest_seconds=0.2) as pool:
        interpreter.unlink()
        with pytest.raises(WorkerLostError):
            await pool.call("crash", {})
        with pytest.raises(WorkerError, match=f"{interpreter}' could not be started"):
            await pool.call("echo", {})
        interpreter.symlink_to(sys.executable)
        await eventually(lambda: [worker.state for worker in pool.stats().workers] == ["ready"])
        assert await pool.call("echo", {"n": 1}) == {"n": 1}


async def test_when_no_start_succeeds_any_more_those_who_wait_are_told_why(tmp_path):
    host = tmp_path / "host.py"
    host.write_text(fake_child.PATH.read_text())

    async with open_pool(spec=replace(fake_worker(), host=host)) as pool:
        host.write_text("raise RuntimeError('the disk is full')")
        with pytest.raises(WorkerLostError):
            await pool.call("crash", {})
        with pytest.raises(WorkerStartError, match=r"did not start: .*the disk is full"):
            await pool.call("echo", {})


async def test_named_pools_under_one_supervisor_do_not_share_their_fate():
    pools = {}

    def make(name):
        def create():
            pools[name] = Pool(
                PoolConfig(name=name, intensity=Intensity(restarts=0), rest_seconds=None),
                fake_worker(),
            )
            return pools[name]

        return ChildSpec(name=name, create=create)

    async with asyncio.timeout(20), WorkerSupervisor("workers", [make("a"), make("b")]) as tree:
        first = pools["a"]
        with pytest.raises(WorkerLostError):
            await first.call("crash", {})
        await eventually(lambda: pools["a"] is not first)
        assert await pools["a"].call("echo", {"n": 1}) == {"n": 1}
        assert (tree.restarts("a"), tree.restarts("b")) == (1, 0)


async def test_a_pool_that_cannot_start_says_why_and_leaves_nothing():
    before = open_resources()
    with pytest.raises(WorkerStartError, match="dspy is not installed"):
        async with Pool(PoolConfig(name="p"), fake_worker({"fail": "dspy is not installed"})):
            pass
    await asyncio.sleep(0)
    assert open_resources() == before


async def test_stopping_fails_what_waits_and_what_runs_and_leaves_nothing():
    before = open_resources()
    pool = Pool(PoolConfig(name="p"), fake_worker(shutdown_seconds=0.2))
    await pool.start()
    await pool.ready()
    calls = [asyncio.create_task(pool.call("hang", {})) for _ in range(3)]
    await asyncio.sleep(0)
    await pool.stop()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [WorkerLostError] * 3
    with pytest.raises(WorkerLostError):
        await pool.call("echo", {})
    await asyncio.sleep(0)
    assert open_resources() == before


async def test_timeouts_in_a_row_open_the_circuit_too():
    async with open_pool(breaker=BreakerConfig(failures=2)) as pool:
        for _ in range(2):
            with pytest.raises(WorkerTimeoutError):
                await pool.call("sleep", {"seconds": 9}, seconds=0.05)
            await eventually(lambda: not any(w.busy for w in pool.stats().workers))
        with pytest.raises(CircuitOpenError):
            await pool.call("echo", {})


async def test_events_tell_the_life_of_every_worker():
    observer = Collecting()

    async with open_pool(observer=observer) as pool:
        with pytest.raises(WorkerLostError):
            await pool.call("crash", {})
        await eventually(lambda: [w.state for w in pool.stats().workers] == ["ready"])
    states = [event.attributes["state"] for event in observer.events if event.name == "worker"]
    assert states == [
        *("starting", "ready", "lost", "ended"),
        *("starting", "ready", "draining", "ended"),
    ]


PARENT = """
import asyncio, sys
from dspex.execution.workers import Pool, PoolConfig
from dspex.testing.processes import fake_worker, open_resources

async def main():
    async with Pool(PoolConfig(name="p", minimum=3, maximum=3), fake_worker()) as pool:
        asyncio.create_task(pool.call("spin", {}))
        asyncio.create_task(pool.call("stubborn", {}))
        grandchild = await pool.call("spawn", {})
        escaped = [await pool.call("escape", {"clean": clean}) for clean in (True, False)]
        print(*open_resources()[0], grandchild, *escaped, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


DEAF = """
import asyncio, os, signal
from dspex.execution.workers import Pool, PoolConfig
from dspex.testing.processes import fake_worker, open_resources

class Hearing:
    def __init__(self):
        self.began = asyncio.Event()

    async def on_callback(self, command, args):
        raise NotImplementedError

    def on_event(self, event, data):
        self.began.set()

async def main():
    config = PoolConfig(name="p", minimum=2, maximum=2, health_seconds=60)
    async with Pool(config, fake_worker()) as pool:
        grandchildren = [await pool.call("spawn", {}) for _ in range(2)]
        hearing = Hearing()
        asyncio.create_task(pool.call("compute", {}, handler=hearing))
        await hearing.began.wait()
        idle = next(worker for worker in pool.stats().workers if not worker.busy)
        os.kill(idle.pid, signal.SIGSTOP)
        print(*open_resources()[0], *grandchildren, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "source", [PARENT, DEAF], ids=["children that hear", "children that are stopped or in C"]
)
async def test_no_child_outlives_a_parent_that_is_killed(source):
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == (7 if source is PARENT else 5)

    await asyncio.gather(*(wait_until_ended(pid, 3.0) for pid in pids))


@pytest.mark.parametrize("clean", [False, True], ids=["with its environment", "without it"])
@pytest.mark.parametrize("how", ["stop", "discard", "crash"])
async def test_what_a_program_started_as_a_daemon_ends_with_its_worker(how, clean):
    async with (
        asyncio.timeout(20),
        Pool(PoolConfig(name="p", intensity=Intensity(restarts=9)), fake_worker()) as pool,
    ):
        daemon = await pool.call("escape", {"clean": clean})
        assert is_alive(daemon)
        if how == "discard":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.call("stubborn", {}), 0.05)
        elif how == "crash":
            await pool.tick()  # its environment is gone, but the last health check recorded it
            with pytest.raises(WorkerLostError):
                await pool.call("crash", {})
        if how != "stop":
            await wait_until_ended(daemon)
    await wait_until_ended(daemon)


def test_only_marked_processes_of_dead_parents_are_swept():
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    marks = {"orphan": f"{dead.stdout.strip()}:1:x", "ours": run_mark(), "unmarked": None}
    sleep = "import signal; print(flush=True); signal.pause()"
    started = {}
    for name, mark in marks.items():
        env = {} if mark is None else {RUN_VARIABLE: mark}
        started[name] = process = subprocess.Popen(
            [sys.executable, "-c", sleep], env=env, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
    try:
        sweep()
        assert started["orphan"].wait(5) == -signal.SIGKILL
        assert is_alive(started["ours"].pid)
        assert is_alive(started["unmarked"].pid)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


async def test_a_program_that_is_there_already_holds_up_nobody():
    async with open_pool(spec=fake_worker(concurrency=2)) as pool:
        loading = LoadRequest(handle="p", args={"name": "p"})
        for _ in range(20):
            calls = [pool.call("create_program", {"name": "p"}, program=loading) for _ in range(9)]
            assert await asyncio.gather(*calls) == ["p"] * 9
        assert pool.stats().queued == 0


async def test_a_worker_gives_up_the_programs_that_nobody_asks_for_and_never_one_in_use():
    async with open_pool(spec=fake_worker(concurrency=4, program_limit=4), minimum=1) as pool:

        async def run(name, command="run", **args):
            loading = LoadRequest(handle=name, args={"name": name})
            return await pool.call(command, {"name": name, **args}, program=loading)

        busy = asyncio.create_task(run("busy", "sleep", seconds=1.5))
        await asyncio.sleep(0)
        names = [f"p{n}" for n in range(12)]
        # p0 is created again, even while its deletion is pending
        for name in [*names, "p0", "p11"]:
            assert await run(name) == name
        await asyncio.gather(*(run(name) for name in names * 3))
        await eventually(lambda: all(worker.busy <= 1 for worker in pool.stats().workers))
        loaded = await pool.call("programs", {})
        assert "busy" in loaded
        assert len(loaded) <= 4 + 1
        await busy
