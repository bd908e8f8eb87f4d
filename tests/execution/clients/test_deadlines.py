import asyncio

import pytest

from dspex.execution.clients.deadlines import CallDeadlines


async def limited(deadlines: CallDeadlines, work) -> str:
    task = deadlines.begin()
    try:
        await work
    except asyncio.CancelledError:
        if deadlines.is_over(task):
            return "late"
        raise
    finally:
        deadlines.end(task)
    return "done"


def test_only_calls_that_take_too_long_are_cancelled(go):
    async def main():
        deadlines, gate = CallDeadlines(0.05), asyncio.Event()
        first = [asyncio.create_task(limited(deadlines, asyncio.Event().wait())) for _ in range(3)]
        quick = asyncio.create_task(limited(deadlines, asyncio.sleep(0)))
        results = await asyncio.gather(quick, *first)
        later = asyncio.create_task(limited(deadlines, gate.wait()))
        await asyncio.sleep(0)
        gate.set()
        return [*results, await later]

    assert go(main()) == ["done", "late", "late", "late", "done"]


def test_cancelling_works_even_if_the_call_is_late(go):
    async def main():
        deadlines = CallDeadlines(0.0)
        task = asyncio.create_task(limited(deadlines, asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    go(main())


def test_a_call_within_a_call_has_the_limit_of_the_outer_one(go):
    async def main():
        deadlines = CallDeadlines(0.05)
        return await limited(deadlines, limited(deadlines, asyncio.Event().wait()))

    assert go(main()) == "late"
