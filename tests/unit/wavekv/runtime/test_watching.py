"""Watches: what a watcher is told and in which order, and what a slow one, many and a stop come to."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.fakes.cluster import LIMITS
from tests.fakes.watched import Watched
from wavekv.core.types import Entry
from wavekv.core.writes import Delete, Put
from wavekv.errors import SlowReader, Stopping, TooManyBytes, TooManyWatchers
from wavekv.runtime.watching import PAGE_ENTRIES, WOKEN_PER_TURN


def keys(count: int) -> list[str]:
    return [f"k{number:05}" for number in range(count)]


async def test_a_new_watch_tells_what_is_held_then_synced_then_each_change() -> None:
    world = Watched()
    world.put("a", b"1")
    world.put("gone", b"1")
    world.delete("gone")
    world.put("old", b"1", expires_at=world.now_ms + 1)
    world.clock.seconds += 0.002
    client = world.watch()
    assert await client.read() == ["put a", "synced"]
    assert [change.token for change in client.told] == [None, world.hub.token()]
    world.put("b", b"2")
    world.delete("a")
    assert await client.read() == ["put b", "delete a"]
    assert client.state == world.live() == {"b": b"2"}


async def test_a_write_is_told_when_it_is_durable_and_not_before() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    world.member.replica.put("a", b"1", world.now_ms)
    assert await client.read() == []
    world.commit()
    assert await client.read() == ["put a"]


async def test_a_watch_of_one_key_hears_of_no_other() -> None:
    world = Watched()
    world.put("k", b"1")
    world.put("kk", b"1")
    client, absent = world.watch_key("k"), world.watch_key("none")
    assert await client.read() == ["put k", "synced"]
    assert await absent.read() == ["synced"]
    world.put("kk", b"2")
    world.put("k", b"2")
    world.delete("k")
    assert await client.read() == ["put k", "delete k"]
    assert await absent.read() == []


async def test_a_prefix_is_compared_with_whole_keys_and_the_empty_one_takes_all() -> None:
    world = Watched()
    watches = [world.watch(prefix) for prefix in ("", "a/", "a/b", "a/bc/d", "ключ")]
    for client in watches:
        assert await client.read() == ["synced"]
    for key in ("a/b", "a", "a/bc", "ключи"):
        world.put(key)
    told = [[change.key for change in client.told[1:]] for client in watches if await client.read() is not None]
    assert told == [["a/b", "a", "a/bc", "ключи"], ["a/b", "a/bc"], ["a/b", "a/bc"], [], ["ключи"]]


async def test_a_change_between_two_pages_is_told_once_and_a_key_not_told_yet_comes_with_its_page() -> None:
    world = Watched()
    for key in keys(PAGE_ENTRIES + 2):
        world.put(key, b"old")
    client = world.watch()
    await client.read_once()
    first, last = keys(PAGE_ENTRIES + 2)[0], keys(PAGE_ENTRIES + 2)[-1]
    assert len(client.told) == PAGE_ENTRIES
    world.put(first, b"new")
    world.put(last, b"new")
    world.delete(keys(PAGE_ENTRIES + 2)[1])
    world.delete(keys(PAGE_ENTRIES + 2)[-2])
    assert await client.read() == [f"put {first}", f"delete {keys(2)[1]}", f"put {last}", "synced"]
    assert [change.token for change in client.told[:-1]] == [None] * (PAGE_ENTRIES + 3)
    assert client.state == world.live()


@pytest.mark.parametrize("count", [0, PAGE_ENTRIES, PAGE_ENTRIES + 1])
async def test_synced_comes_once_behind_the_last_page(count: int) -> None:
    world = Watched()
    for key in keys(count):
        world.put(key)
    client = world.watch()
    assert await client.read() == [*(f"put {key}" for key in keys(count)), "synced"]


async def test_a_write_under_way_when_the_watch_opens_is_not_lost() -> None:
    world = Watched()
    world.member.replica.put("k", b"staged", world.now_ms)
    group = world.member.replica.ready()
    assert group is not None
    client = world.watch()
    assert await client.read() == ["synced"]
    world.member.replica.advance(group)
    world.hub.committed(group.ops, world.member.store.position - len(group.ops) + 1, group.withdrawn)
    assert await client.read() == ["put k"]
    assert client.state == {"k": b"staged"}


async def test_what_peers_bring_is_told_and_losers_are_not() -> None:
    world = Watched()
    world.put("k", b"mine")
    client = world.watch()
    await client.read()
    world.merge(Entry("k", b"older", 1, 9, 1), Entry("l", b"theirs", 1, 9, 2), Entry("k", None, 5000, 9, 3))
    assert await client.read() == ["put l", "delete k"]


async def test_a_value_that_a_repair_drops_is_told_as_deleted_and_a_collected_delete_is_not_told_again() -> None:
    world = Watched()
    for key in ("live", "dead"):
        world.put(key, b"1")
    world.delete("dead")
    client = world.watch()
    await client.read()
    token = world.hub.token()
    world.member.replica.forget(["live", "dead"])
    world.commit()
    assert await client.read() == ["delete live"]
    assert client.state == world.live() == {}
    resumed = world.watch(since=token)
    assert await resumed.read() == ["delete live", "delete dead", "synced"], "who resumes may have missed either"


# ---- batches -------------------------------------------------------------------------------------------------------


async def test_a_batch_is_told_in_its_order_with_each_of_two_writes_of_one_key() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    world.batch(Put("a", b"1"), Put("b", b"1"), Put("a", b"2"), Delete("b"))
    assert await client.read() == ["put a", "put b", "put a", "delete b"]
    assert client.state == {"a": b"2"}


async def test_a_token_from_within_a_batch_tells_it_whole_and_the_one_of_its_end_nothing_of_it() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    world.batch(Put("a", b"1"), Put("b", b"1"), Put("c", b"1"))
    await client.read()
    tokens = [change.token for change in client.told[1:]]
    assert await world.watch(since=tokens[0]).read() == ["put a", "put b", "put c", "synced"]
    assert await world.watch(since=tokens[1]).read() == ["put a", "put b", "put c", "synced"]
    assert await world.watch(since=tokens[2]).read() == ["synced"]


async def test_a_watcher_of_the_first_half_of_a_batch_has_a_token_too() -> None:
    world = Watched()
    client = world.watch("a")
    await client.read()
    world.batch(Put("a", b"1"), Put("b", b"1"))
    await client.read()
    assert client.told[-1].token is not None
    world.batch(Put("a", b"2"), Put("b", b"2"))
    assert await world.watch("a", since=client.told[-1].token).read() == ["put a", "synced"]


# ---- slow, many, stopping ------------------------------------------------------------------------------------------


async def test_a_reader_is_cut_by_the_event_above_the_bound_and_others_are_not() -> None:
    world = Watched(replace(LIMITS, watch_waiting_max=3))
    slow, quick = world.watch(), world.watch("k")
    await slow.read()
    await quick.read()
    for key in keys(3):
        world.put(key)
    assert await quick.read() == [f"put {key}" for key in keys(3)]
    assert world.hub.cut == 0
    world.put("k", b"one too many")
    with pytest.raises(SlowReader):
        await slow.subscription.next()
    assert world.hub.cut == 1
    world.put("l")
    assert world.hub.cut == 1, "it is cut once"
    assert await quick.read() == ["put k"]


async def test_the_bytes_that_wait_are_bounded_one_event_more_at_most() -> None:
    world = Watched(replace(LIMITS, watch_waiting_bytes_max=10))
    client = world.watch()
    await client.read()
    world.put("k", b"x" * 8)
    world.put("k", b"x" * 1000)
    assert len(client.subscription._waiting) == 2
    world.put("k", b"")
    with pytest.raises(SlowReader):
        await client.read()


async def test_taking_events_makes_room_for_as_many_again() -> None:
    world = Watched(replace(LIMITS, watch_waiting_max=2, watch_waiting_bytes_max=10))
    client = world.watch()
    await client.read()
    for _ in range(5):
        world.put("a", b"1234")
        world.put("b", b"1234")
        assert await client.read() == ["put a", "put b"]


async def test_a_cut_reader_that_waits_is_woken() -> None:
    world = Watched(replace(LIMITS, watch_waiting_max=1))
    client = world.watch()
    await client.read()
    waiting = client.wait()
    await asyncio.sleep(0)
    world.put("a")
    world.put("b")
    with pytest.raises(SlowReader):
        await asyncio.wait_for(waiting, 5)


async def test_watchers_are_woken_a_few_in_each_turn_and_all_in_the_end() -> None:
    world = Watched()
    clients = [world.watch() for _ in range(2 * WOKEN_PER_TURN + 1)]
    for client in clients:
        await client.read()
        client.wait()
    await asyncio.sleep(0)
    world.put("a")
    woken = []
    for _ in range(6):
        woken.append(sum(client.reading is not None and client.reading.done() for client in clients))
        await asyncio.sleep(0)
    assert max(late - early for early, late in pairwise(woken)) <= WOKEN_PER_TURN
    for client in clients:
        assert await client.read() == ["put a"]


async def test_a_watcher_is_queued_once_however_many_changes_wait_for_it() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    client.wait()
    await asyncio.sleep(0)
    for key in keys(10):
        world.put(key)
    assert len(world.hub._woken) == 1
    assert len(await client.read()) == 10
    world.put("z")
    assert await client.read() == ["put z"]


async def test_the_watch_above_the_bound_is_refused_until_one_is_closed() -> None:
    world = Watched(replace(LIMITS, watchers_max=2))
    first, second = world.watch(), world.watch_key("k")
    with pytest.raises(TooManyWatchers):
        world.watch()
    first.close()
    first.close()
    assert world.hub.count == 1
    world.watch()
    second.close()
    assert world.hub.count == 1


async def test_a_closed_watch_leaves_nothing_behind() -> None:
    world = Watched()
    for client in (world.watch("a/"), world.watch("b/"), world.watch_key("a/b"), world.watch("")):
        await client.read()
        client.close()
    assert (world.hub._by_key, world.hub._by_prefix, dict(world.hub._prefix_lengths), world.hub.count) == (
        {},
        {},
        {},
        0,
    )
    world.put("a/b")


async def test_stopping_ends_those_that_wait_those_that_lag_and_those_to_come() -> None:
    world = Watched()
    waits, lags, key = world.watch(), world.watch("p"), world.watch_key("k")
    for client in (waits, lags, key):
        await client.read()
    world.put("p")
    world.hub.stop()
    for client in (waits, lags, key):
        with pytest.raises(Stopping):
            await client.read()
    with pytest.raises(Stopping):
        world.watch()


async def test_a_cancelled_read_loses_no_event() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    waiting = client.wait()
    await asyncio.sleep(0)
    world.put("a")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    client.reading = None
    world.put("b")
    assert await client.read() == ["put a", "put b"]


async def test_a_merged_value_that_has_expired_already_is_gone_with_the_next_tick() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    world.merge(Entry("k", b"v", 500, 9, 1, expires_at=600))
    world.tick(0.1)
    told = await client.read()
    assert told[-1] == "expire k"
    assert client.state == world.live() == {}


async def test_a_watcher_that_waits_is_woken_each_time() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    for key in keys(3):
        waiting = client.wait()
        await asyncio.sleep(0)
        world.put(key)
        assert [change.key for change in await asyncio.wait_for(waiting, 5)] == [key]
    client.reading = None


# ---- the budget of all watches ---------------------------------------------------------------------------------------


async def test_an_event_counts_once_however_many_it_waits_for_and_is_given_back() -> None:
    world = Watched()
    clients = [world.watch() for _ in range(50)]
    for client in clients:
        await client.read()
    world.put("k", bytes(1000))
    used = world.hub.budget.used
    assert 1000 < used < 2000
    for client in clients[:-1]:
        await client.read()
    assert world.hub.budget.used == used
    clients[-1].subscription.close()
    assert world.hub.budget.used == 0


async def test_when_the_budget_is_used_up_who_waited_longest_is_cut_and_who_reads_is_not() -> None:
    world = Watched(replace(LIMITS, watch_held_bytes_max=10_000))
    slow, reader = world.watch("slow"), world.watch("")
    for client in (slow, reader):
        await client.read()
    world.put("slow/1", bytes(5000))
    assert await reader.read() == ["put slow/1"]
    world.put("other", bytes(5000))
    assert await reader.read() == ["put other"]
    with pytest.raises(SlowReader, match="for all watchers"):
        await slow.read()
    assert (world.hub.cut, world.hub.budget.used) == (1, 0)


async def test_a_change_larger_than_the_budget_cuts_those_it_is_for_and_nobody_else() -> None:
    world = Watched(replace(LIMITS, watch_held_bytes_max=2000))
    concerned, other = world.watch("k"), world.watch("x")
    for client in (concerned, other):
        await client.read()
    world.put("k", bytes(3000))
    with pytest.raises(SlowReader):
        await concerned.read()
    world.put("x", b"")
    assert await other.read() == ["put x"]


async def test_what_resumed_watches_have_missed_is_counted_refused_and_given_back() -> None:
    world = Watched(replace(LIMITS, watch_held_bytes_max=20_000))
    first = world.watch()
    world.put("begin")
    await first.read()
    token = first.token
    first.subscription.close()
    for number in range(100):
        world.put(f"k{number:03}", b"v")
    resumed = world.watch(since=token)
    assert 10_000 < world.hub.budget.used <= 20_000
    with pytest.raises(TooManyBytes):
        world.watch(since=token)
    assert world.hub.count == 1, "a refused watch is in no book"
    await resumed.read()
    assert world.hub.budget.used == 0
    assert len(resumed.state) >= 100


async def test_pages_are_read_a_few_in_each_turn_and_all_in_the_end() -> None:
    world = Watched()
    for number in range(3):
        world.put(f"k{number}")
    clients = [world.watch() for _ in range(20)]
    waiting = [client.wait() for client in clients]
    done: list[int] = []
    while not all(task.done() for task in waiting):
        await asyncio.sleep(0)
        done.append(sum(task.done() for task in waiting))
    assert all(after - before <= 1 for before, after in pairwise([0, *done]))
    assert all(len(task.result()) == 4 for task in waiting)
