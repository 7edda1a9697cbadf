"""How much of a turn the telling of watchers takes, and what stays true while changes wait to be told."""

import asyncio
from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS
from tests.fakes.watched import Client, Watched
from wavekv.core.writes import Put
from wavekv.errors import SlowReader
from wavekv.runtime import watching


async def settled(world: Watched) -> int:
    """Let all changes be told; return the turns that took."""
    turns = 0
    while world.hub.behind:
        await asyncio.sleep(0)
        turns += 1
    return turns


async def synced(world: Watched, count: int, prefix: str = "k") -> list[Client]:
    clients = [world.watch(prefix) for _ in range(count)]
    for client in clients:
        assert await client.read() == ["synced"]
    return clients


async def test_a_batch_that_interests_many_is_told_over_several_turns_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Watched()
    clients = await synced(world, 20)
    monkeypatch.setattr(watching, "TOLD_PER_TURN", 100)
    world.batch(*[Put(f"k{number:02}", b"v") for number in range(40)])
    assert await settled(world) >= 40 * 20 // 100 - 1
    for client in clients:
        assert await client.read() == [f"put k{number:02}" for number in range(40)]


async def test_prefixes_of_very_many_lengths_are_looked_up_over_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Watched()
    for length in range(1, 101):
        world.watch("p" * length)
    monkeypatch.setattr(watching, "TOLD_PER_TURN", 500)
    world.batch(*[Put(f"q{number}", b"v") for number in range(50)])
    assert await settled(world) >= 50 * 100 // 500 - 1


async def test_a_watch_begun_while_changes_wait_tells_each_key_once_and_never_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Watched()
    await synced(world, 3)
    monkeypatch.setattr(watching, "TOLD_PER_TURN", 1)
    world.batch(*[Put("k", value) for value in (b"1", b"2", b"3")])
    assert world.hub.behind
    late = world.watch("k")
    await settled(world)
    assert await late.read() == ["put k", "synced"]
    world.put("k", b"4")
    await settled(world)
    await late.read()
    values = [change.entry.value for change in late.told if change.entry is not None]
    assert values == [b"3", b"4"]


async def test_over_the_bound_of_what_waits_to_be_told_every_watch_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Watched(replace(LIMITS, watch_untold_max=10))
    (client,) = await synced(world, 1)
    monkeypatch.setattr(watching, "TOLD_PER_TURN", 1)
    world.batch(*[Put(f"k{number:02}", b"v") for number in range(10)])
    world.put("k98")
    assert (world.hub.cut, world.hub.behind) == (0, True), "one was told at once, ten wait"
    world.put("k99")
    assert (world.hub.cut, world.hub.behind) == (1, False)
    with pytest.raises(SlowReader, match="faster than all watchers"):
        await client.subscription.next()
