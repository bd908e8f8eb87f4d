import asyncio

import pytest

from dspex.execution.clients.overtime import Overtime


async def limited(overtime: Overtime, work) -> str:
    task = overtime.begin()
    try:
        await work
    except asyncio.CancelledError:
        if overtime.is_over(task):
            return "late"
        raise
    finally:
        overtime.end(task)
    return "done"


def test_what_takes_too_long_is_ended_and_nothing_else(go):
    async def main():
        overtime, gate = Overtime(0.05), asyncio.Event()
        first = [asyncio.create_task(limited(overtime, asyncio.Event().wait())) for _ in range(3)]
        quick = asyncio.create_task(limited(overtime, asyncio.sleep(0)))
        found = await asyncio.gather(quick, *first)
        later = asyncio.create_task(limited(overtime, gate.wait()))
        await asyncio.sleep(0)
        gate.set()
        return [*found, await later]

    assert go(main()) == ["done", "late", "late", "late", "done"]


def test_a_caller_that_cancels_is_heard_even_when_the_call_is_late(go):
    async def main():
        overtime = Overtime(0.0)
        task = asyncio.create_task(limited(overtime, asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    go(main())


def test_a_call_within_a_call_has_the_limit_of_the_outer_one(go):
    async def main():
        overtime = Overtime(0.05)
        return await limited(overtime, limited(overtime, asyncio.Event().wait()))

    assert go(main()) == "late"
