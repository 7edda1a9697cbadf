"""Work of many is spread over turns of the loop: so much in each, first come first served, none lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from wavekv.runtime.gate import Gate, next_slice


async def turns_of(passing: Callable[[], Awaitable[None]], count: int) -> list[int]:
    """Let `count` tasks pass at once; return in which turn of the loop each did."""
    passed: dict[int, int] = {}
    turn = 0

    async def one(number: int) -> None:
        await passing()
        passed[number] = turn

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    while len(passed) < count:
        turn += 1
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return [passed[number] for number in range(count)]


@pytest.mark.parametrize("per_turn", [1, 3])
async def test_so_many_pass_in_a_turn_in_the_order_they_came(per_turn: int) -> None:
    turns = await turns_of(Gate(per_turn).passed, 10)
    assert turns == sorted(turns)
    assert max(turns.count(turn) for turn in turns) == per_turn
    assert turns[0] == 1


async def test_two_slices_are_never_done_in_one_turn() -> None:
    turns = await turns_of(next_slice, 5)
    assert len(set(turns)) == 5
    assert min(turns) > 1, "a slice never follows another one in the same turn"


async def test_nobody_waits_once_the_gate_was_idle() -> None:
    gate = Gate(1)
    await gate.passed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task = asyncio.create_task(gate.passed())
    await asyncio.sleep(0)
    assert task.done()


async def test_one_that_leaves_takes_nobodys_turn() -> None:
    gate = Gate(1)
    first, leaver, last = (asyncio.create_task(gate.next()) for _ in range(3))
    await asyncio.sleep(0)
    leaver.cancel()
    await first
    for _ in range(3):
        await asyncio.sleep(0)
    assert last.done()
    assert leaver.cancelled()


async def test_who_holds_much_goes_ahead_of_all_that_wait() -> None:
    gate = Gate(1)
    order: list[str] = []

    async def one(name: str, *, ahead: bool) -> None:
        for _ in range(2):
            await gate.next(ahead=ahead)
            order.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(one("waits", ahead=False))
        group.create_task(one("holds", ahead=True))
    assert order == ["holds", "holds", "waits", "waits"]
