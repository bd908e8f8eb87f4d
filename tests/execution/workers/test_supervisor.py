import asyncio
import random
from contextlib import asynccontextmanager

import pytest

from dspex.errors import DefinitionError, RestartLimitError, WorkerLostError, WorkerStartError
from dspex.execution.workers import Backoff, ChildSpec, Intensity, RestartPolicy, WorkerSupervisor
from dspex.testing import FakeClock


class Nursery:
    """Creates children that log their starts and stops."""

    def __init__(self):
        self.log = []
        self.living = {}
        self.refuses = set()

    def spec(self, name, restart="permanent"):
        return ChildSpec(name=name, create=lambda: Fake(self, name), restart=restart)

    async def crash(self, name):
        self.living[name].ended.set_result(WorkerLostError(f"{name} crashed"))
        await FakeClock().settle(40)

    async def leave(self, name):
        self.living[name].ended.set_result(None)
        await FakeClock().settle(40)

    def take(self):
        log, self.log = self.log, []
        return " ".join(log)


class Fake:
    def __init__(self, nursery, name):
        self.nursery, self.name = nursery, name
        self.ended = asyncio.get_running_loop().create_future()

    async def start(self):
        if self.name in self.nursery.refuses:
            raise WorkerStartError(f"{self.name} refuses")
        self.nursery.log.append(f"+{self.name}")
        self.nursery.living[self.name] = self

    async def wait(self):
        return await asyncio.shield(self.ended)

    async def stop(self):
        self.nursery.log.append(f"-{self.name}")
        if not self.ended.done():
            self.ended.set_result(None)


@asynccontextmanager
async def supervise(**options):
    """Open a supervisor of three permanent children, or of `specs`."""
    nursery, clock = Nursery(), FakeClock()
    specs = options.pop("specs", lambda n: [n.spec("a"), n.spec("b"), n.spec("c")])(nursery)
    supervisor = WorkerSupervisor(
        "s", specs, policy=RestartPolicy(**options), clock=clock, rng=random.Random(7)
    )
    async with supervisor:
        yield nursery, supervisor, clock


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("one_for_one", "+b"), ("rest_for_one", "-c +b +c"), ("one_for_all", "-c -a +a +b +c")],
)
async def test_a_crash_restarts_what_the_strategy_says_in_order(strategy, expected):
    async with supervise(strategy=strategy) as (nursery, supervisor, _clock):
        assert nursery.take() == "+a +b +c"
        await nursery.crash("b")
        assert nursery.take() == expected
        assert supervisor.restarts("b") == 1

    assert nursery.take() == "-c -b -a"


@pytest.mark.parametrize(
    ("restart", "after_crash", "after_leave"),
    [("permanent", "+b", "+b"), ("transient", "+b", ""), ("temporary", "", "")],
)
async def test_a_child_comes_back_as_its_restart_says(restart, after_crash, after_leave):
    for how, expected in (("crash", after_crash), ("leave", after_leave)):
        async with supervise(specs=lambda n: [n.spec("a"), n.spec("b", restart)]) as (nursery, *_):
            nursery.take()
            await getattr(nursery, how)("b")
            assert nursery.take() == expected


async def test_too_many_failures_go_up_and_stop_everything():
    async with supervise(intensity=Intensity(restarts=2)) as (nursery, supervisor, clock):
        for _ in range(2):
            await nursery.crash("a")
            await clock.advance(1)
        nursery.take()
        await nursery.crash("b")
        assert nursery.take() == "-c -a"
        error = await supervisor.wait()
        assert isinstance(error, RestartLimitError)
        assert "more than 2 times in 60 s, last 'b': b crashed" in error.message


async def test_failures_outside_the_window_are_forgotten_and_ordered_ends_never_count():
    async with supervise(intensity=Intensity(restarts=1)) as (nursery, supervisor, clock):
        for _ in range(4):
            await nursery.crash("a")
            await clock.advance(61)
            await nursery.leave("b")
        assert supervisor.restarts("a") == 4
        assert supervisor.restarts("b") == 4


async def test_the_first_restart_is_immediate_and_later_ones_back_off():
    async with supervise(backoff=Backoff(base=2.0)) as (nursery, _supervisor, clock):
        await nursery.crash("a")
        nursery.take()
        await nursery.crash("a")
        assert nursery.take() == ""
        await clock.advance(1.4)
        assert nursery.take() == ""
        await clock.advance(1.7)
        assert nursery.take() == "+a"


def test_backoff_doubles_has_jitter_and_a_ceiling():
    backoff, rng = Backoff(base=1, ceiling=8), random.Random(1)
    for failures, planned in ((1, 0), (2, 1), (3, 2), (5, 8), (50, 8)):
        delays = [backoff.delay(failures, rng) for _ in range(50)]
        assert all(planned * 0.5 <= delay <= planned * 1.5 for delay in delays)
        assert len(set(delays)) > (1 if planned else 0)


async def test_a_child_that_cannot_start_stops_those_before_it_and_raises():
    nursery = Nursery()
    nursery.refuses.add("b")
    supervisor = WorkerSupervisor("s", [nursery.spec("a"), nursery.spec("b")])
    with pytest.raises(WorkerStartError, match="b refuses"):
        await supervisor.start()
    assert nursery.take() == "+a -a"


async def test_a_restart_that_cannot_start_counts_as_a_failure():
    async with supervise(intensity=Intensity(restarts=2)) as (nursery, supervisor, clock):
        nursery.refuses.add("a")
        await nursery.crash("a")
        await clock.advance(1)
        assert isinstance(await supervisor.wait(), RestartLimitError)


async def test_an_added_child_that_cannot_start_is_tried_again_until_the_supervisor_gives_up():
    async with supervise(intensity=Intensity(restarts=1)) as (nursery, supervisor, clock):
        nursery.refuses.add("d")
        await supervisor.add(nursery.spec("d"))
        await clock.advance(1)
        assert isinstance(await supervisor.wait(), RestartLimitError)


async def test_a_supervisor_is_a_child_of_another_and_its_failure_is_contained_there():
    nursery, clock = Nursery(), FakeClock()
    policy = RestartPolicy(intensity=Intensity(restarts=0))
    inner = ChildSpec(
        name="inner", create=lambda: WorkerSupervisor("inner", [nursery.spec("a")], policy=policy)
    )
    async with WorkerSupervisor("outer", [inner, nursery.spec("b")], clock=clock) as outer:
        await nursery.crash("a")
        assert nursery.take() == "+a +b +a"
        assert outer.restarts("inner") == 1


async def test_children_come_and_go_while_it_runs():
    async with supervise() as (nursery, supervisor, _clock):
        nursery.take()
        await supervisor.add(nursery.spec("d"))
        await supervisor.remove("a")
        assert (nursery.take(), list(supervisor.children)) == ("+d -a", ["b", "c", "d"])
        with pytest.raises(DefinitionError, match="has a child 'b' already"):
            await supervisor.add(nursery.spec("b"))

    assert nursery.take() == "-d -c -b"
