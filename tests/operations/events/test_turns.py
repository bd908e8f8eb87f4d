"""Many followers leave turns of the loop to others."""

import asyncio

from dspex.operations.events.turns import Turns


async def test_so_many_go_on_in_each_round_in_order_and_others_run_between() -> None:
    turns, order, rounds = Turns(10), list[int](), list[int]()

    async def follow(number: int) -> None:
        await turns.take()
        order.append(number)

    followers = [asyncio.create_task(follow(number)) for number in range(1000)]
    while not all(follower.done() for follower in followers):
        before = len(order)
        turn = asyncio.Event()
        asyncio.get_running_loop().call_soon(turn.set)
        await turn.wait()
        rounds.append(len(order) - before)
    assert order == list(range(1000))
    assert max(rounds) <= 40  # a few rounds of ten, never all at once


async def test_who_leaves_takes_no_turn() -> None:
    turns, took = Turns(1), list[int]()

    async def follow(number: int) -> None:
        await turns.take()
        took.append(number)

    followers = [asyncio.create_task(follow(number)) for number in range(6)]
    await asyncio.wait({followers[0]})
    followers[3].cancel()
    await asyncio.wait(followers)
    assert took == [0, 1, 2, 4, 5]
    await turns.take()
