"""Work beside the event loop."""

import asyncio
import threading

import pytest

from dspex import Signature
from dspex.errors import InputError
from dspex.language.signatures.cancellable_run import CancellableRun
from dspex.operations.framework.heavy_work import HeavyWork, InputLimits


async def test_the_loop_goes_on_while_work_is_done() -> None:
    heavy, gate, started = HeavyWork(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(_: CancellableRun) -> bool:
        loop.call_soon_threadsafe(started.set)
        return gate.wait(60)

    working = asyncio.create_task(heavy.run(wait))
    await started.wait()
    gate.set()  # only a loop that goes on gets here
    heavy.close()
    assert await working


async def test_work_ends_with_who_waits_for_it() -> None:
    heavy, started, finished = HeavyWork(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def endless(work: CancellableRun) -> None:
        loop.call_soon_threadsafe(started.set)
        try:
            while True:
                work.step()
        finally:
            finished.set()

    working = asyncio.create_task(heavy.run(endless))
    await started.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    heavy.close()
    assert await asyncio.to_thread(finished.wait, 60)


def test_more_than_one_call_may_cost_is_refused_before_it_is_checked() -> None:
    most = InputLimits()
    validator = Signature("x: list[int], y: str -> z").input_validator
    most.check(validator.amount({"x": [1] * 90_000, "y": "a" * 4_000_000}))
    with pytest.raises(InputError, match="100001 values"):
        most.check(validator.amount({"x": [1] * 100_000}))
    costly = Signature(r"x: list[str[pattern='(\\w{1,13}){1,13}$']], y: str -> z").input_validator
    most.check(costly.amount({"x": ["short"] * 100, "y": "a" * 4_000_000}))
    with pytest.raises(InputError, match="patterns of their types"):
        most.check(costly.amount({"x": ["a" * 10_000] * 100}))


def test_the_alternatives_and_patterns_of_a_json_schema_count() -> None:
    most = InputLimits()
    patterns = {"items": {"anyOf": [{"pattern": f"a{n}$"} for n in range(900)]}}
    objects = {"items": {"anyOf": [{"required": [f"a{n}"]} for n in range(900)]}}
    for schema, value in ((patterns, "ab"), (objects, {})):
        validator = Signature.from_json_schema(
            {"type": "object", "properties": {"x": schema}, "required": ["x"]}, role="input"
        ).input_validator
        most.check(validator.amount({"x": [value] * 100}))
        with pytest.raises(InputError):
            most.check(validator.amount({"x": [value] * 90_000}))


def test_little_is_quick_and_much_is_not() -> None:
    validator = Signature("x: list[int] -> z").input_validator
    assert validator.is_quick(validator.amount({"x": [1] * 100}))
    assert not validator.is_quick(validator.amount({"x": [1] * 50_000}))
