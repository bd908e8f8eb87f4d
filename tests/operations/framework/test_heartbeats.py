"""Silence is measured by the clock of the process that looks."""

from dspex.operations.framework.heartbeats import HeartbeatWatch
from dspex.testing import FakeClock


async def test_silence_grows_while_the_count_stands_still_and_ends_with_a_beat() -> None:
    clock = FakeClock()
    watch: HeartbeatWatch[str] = HeartbeatWatch(clock, longest_look=4.0)
    assert watch.look({"a": 1, "b": 1}) == {"a": 0.0, "b": 0.0}
    await clock.advance(3)
    assert watch.look({"a": 1, "b": 2}) == {"a": 3.0, "b": 0.0}
    await clock.advance(3)
    assert watch.look({"a": 1, "b": 2}) == {"a": 6.0, "b": 3.0}


async def test_time_in_which_this_process_stood_still_is_nobodys_silence() -> None:
    clock = FakeClock()
    watch: HeartbeatWatch[str] = HeartbeatWatch(clock, longest_look=4.0)
    watch.look({"a": 1})
    await clock.advance(3600)
    assert watch.look({"a": 1}) == {"a": 4.0}


async def test_who_is_not_looked_at_is_forgotten() -> None:
    clock = FakeClock()
    watch: HeartbeatWatch[str] = HeartbeatWatch(clock, longest_look=4.0)
    watch.look({"a": 1})
    watch.look({})
    await clock.advance(3)
    assert watch.look({"a": 1}) == {"a": 0.0}
