"""Watches: what a watcher is told and in which order, where it may resume, and what a slow or late one costs."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.fakes.cluster import LIMITS
from tests.fakes.watched import Watched
from wavekv.core.types import Entry
from wavekv.core.writes import Delete, Put
from wavekv.errors import InvalidParameter, SlowReader, Stopping, TooManyWatchers, WatchExpired
from wavekv.runtime import watching
from wavekv.runtime.watching import EXPIRED_REMEMBERED, PAGE_ENTRIES, WOKEN_PER_TURN


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
    world.hub.committed(group.ops, world.member.store.position - len(group.ops) + 1)
    assert await client.read() == ["put k"]
    assert client.state == {"k": b"staged"}


async def test_what_peers_bring_is_told_and_losers_are_not() -> None:
    world = Watched()
    world.put("k", b"mine")
    client = world.watch()
    await client.read()
    world.merge(Entry("k", b"older", 1, 9, 1), Entry("l", b"theirs", 1, 9, 2), Entry("k", None, 5000, 9, 3))
    assert await client.read() == ["put l", "delete k"]


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


# ---- tokens --------------------------------------------------------------------------------------------------------


async def test_the_token_of_the_very_last_event_resumes_with_nothing_missed() -> None:
    world = Watched()
    client = world.watch()
    world.put("a")
    await client.read()
    again = world.watch(since=client.token)
    assert await again.read() == ["synced"]
    world.put("b")
    assert await again.read() == ["put b"]


async def test_resuming_tells_each_changed_key_once_as_it_is_now() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    world.put("a", b"1")
    world.put("b", b"1")
    world.put("a", b"2")
    world.delete("b")
    world.put("c", b"1")
    again = world.watch(since=client.token)
    assert await again.read() == ["put a", "delete b", "put c", "synced"]
    assert again.state == {"a": b"2", "c": b"1"}
    assert await world.watch("c", since=client.token).read() == ["put c", "synced"]
    assert await world.watch_key("b", since=client.token).read() == ["delete b", "synced"]


async def test_a_resumed_watch_hears_of_a_change_before_its_first_page_once() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    world.put("a", b"1")
    again = world.watch(since=client.token)
    world.put("a", b"2")
    world.put("b", b"2")
    assert await again.read() == ["put b", "put a", "synced"]
    assert again.state == {"a": b"2", "b": b"2"}
    assert again.token == world.hub.token()


async def test_one_that_missed_more_than_may_wait_is_not_cut_for_it() -> None:
    world = Watched(replace(LIMITS, watch_waiting_max=3))
    client = world.watch()
    await client.read()
    client.close()
    for key in keys(PAGE_ENTRIES + 1):
        world.put(key)
    again = world.watch(since=client.token)
    world.put(keys(1)[0], b"new")
    world.put("late")
    told = await again.read()
    assert told == ["put late", *(f"put {key}" for key in keys(PAGE_ENTRIES + 1)), "synced"]
    assert again.state == world.live()
    assert world.hub.cut == 0


async def test_changes_between_the_pages_of_what_was_missed_have_no_token_until_all_is_told() -> None:
    world = Watched()
    client = world.watch()
    await client.read()
    for key in keys(PAGE_ENTRIES + 1):
        world.put(key)
    again = world.watch(since=client.token)
    await again.read_once()
    world.put(keys(1)[0], b"new")
    world.put(keys(PAGE_ENTRIES + 1)[-1], b"new")
    assert await again.read() == [f"put {keys(1)[0]}", f"put {keys(PAGE_ENTRIES + 1)[-1]}", "synced"]
    assert [change.token for change in again.told[:-1]] == [None] * (PAGE_ENTRIES + 2)
    assert again.state == world.live()


@pytest.mark.parametrize("restarts", [1, 3])
async def test_a_token_outlives_restarts(restarts: int) -> None:
    world = Watched()
    client = world.watch()
    world.put("a", b"1")
    await client.read()
    world.put("b", b"1")
    for _ in range(restarts):
        world.restart()
    again = world.watch(since=client.token)
    assert await again.read() == ["put b", "synced"]


async def test_a_token_of_a_log_that_was_rolled_back_behind_it_has_expired() -> None:
    world = Watched()
    client = world.watch()
    world.put("a", b"1")
    await client.read()
    early, kept = client.token, len(world.member.log)
    world.put("b", b"1")
    await client.read()
    late = client.token
    store = world.member.store
    world.restart(keep=kept)
    for key in keys(5):
        world.put(key)
    assert world.member.store.position > store.position, "the new log is longer than the token is far"
    with pytest.raises(WatchExpired):
        world.watch(since=late)
    assert (await world.watch(since=early).read())[-1] == "synced"


async def test_a_token_ahead_of_the_log_has_expired() -> None:
    world = Watched()
    ahead = world.hub.token(world.member.store.position + 1)
    with pytest.raises(WatchExpired):
        world.watch(since=ahead)
    assert await world.watch(since=world.hub.token()).read() == ["synced"]


async def test_a_token_is_good_as_far_back_as_changes_are_remembered() -> None:
    world = Watched(replace(LIMITS, changes_max=3))
    tokens = [world.hub.token()]
    for key in keys(4):
        world.put(key)
        tokens.append(world.hub.token())
    assert await world.watch(since=tokens[1]).read() == ["put k00001", "put k00002", "put k00003", "synced"]
    with pytest.raises(WatchExpired):
        world.watch(since=tokens[0])
    assert world.hub.count == 1, "a refused watch is none"


async def test_another_member_s_token_has_expired() -> None:
    world = Watched()
    node, inc, position = world.hub.token().split("-")
    for token in (f"{'0' * 32}-{inc}-{position}", f"{node}-{int(inc) + 1}-{position}", f"{node}e-1-1"):
        with pytest.raises(WatchExpired):
            world.watch(since=token)


@pytest.mark.parametrize("token", ["", "x", "a-b-c", "a-1", "a-1-2-3", "a--1", "a-1-", "a-1-²", f"a-1-{'9' * 21}"])
async def test_what_is_no_token_is_refused_as_such(token: str) -> None:
    with pytest.raises(InvalidParameter):
        Watched().watch(since=token)


# ---- expiry --------------------------------------------------------------------------------------------------------


async def test_an_expiry_is_told_once_within_a_tick_and_with_a_token() -> None:
    world = Watched()
    world.put("k", b"v", expires_at=world.now_ms + 50)
    client = world.watch()
    assert await client.read() == ["put k", "synced"]
    world.tick(0.049)
    assert await client.read() == []
    world.tick(0.1)
    assert await client.read() == ["expire k"]
    assert client.told[-1].token is not None
    world.tick(0.1)
    assert await client.read() == []
    assert client.state == world.live() == {}


async def test_a_value_that_was_replaced_or_deleted_does_not_expire() -> None:
    world = Watched()
    for key in ("kept", "deleted", "longer"):
        world.put(key, b"v", expires_at=world.now_ms + 50)
    client = world.watch()
    await client.read()
    world.put("kept", b"v")
    world.delete("deleted")
    world.put("longer", b"v", expires_at=world.now_ms + 500)
    assert await client.read() == ["put kept", "delete deleted", "put longer"]
    assert world.tick(0.2) == []
    assert world.tick(0.5) == ["longer"]
    assert await client.read() == ["expire longer"]


async def test_a_clock_that_steps_back_brings_no_expired_value_back_and_tells_it_once() -> None:
    world = Watched()
    world.put("k", b"v", expires_at=world.now_ms + 50)
    client = world.watch()
    await client.read()
    assert world.tick(1.0) == ["k"]
    world.clock.seconds -= 1.0
    assert world.live() == {}
    assert world.tick() == []
    assert await world.watch().read() == ["synced"]
    assert await client.read() == ["expire k"]


async def test_a_watch_that_resumes_hears_of_the_expiries_it_missed() -> None:
    world = Watched()
    world.put("k", b"v", expires_at=world.now_ms + 50)
    client = world.watch()
    await client.read()
    world.tick(0.2)
    client.close()
    again = world.watch(since=client.token)
    assert await again.read() == ["expire k", "synced"]
    world.put("x")
    assert await again.read() == ["put x"]
    assert await world.watch(since=again.token).read() == ["synced"]


async def test_one_that_resumes_behind_an_expiry_before_the_tick_hears_of_it_with_the_tick() -> None:
    world = Watched()
    world.put("k", b"v", expires_at=world.now_ms + 50)
    client = world.watch()
    await client.read()
    world.clock.seconds += 0.06
    again = world.watch(since=client.token)
    assert await again.read() == ["synced"]
    world.tick(0.1)
    assert await again.read() == ["expire k"]


async def test_after_a_restart_a_resumed_watch_hears_of_what_expired_meanwhile() -> None:
    world = Watched()
    world.put("k", b"v", expires_at=world.now_ms + 50)
    client = world.watch()
    await client.read()
    world.clock.seconds += 60
    world.restart()
    world.tick()
    assert await world.watch(since=client.token).read() == ["expire k", "synced"]
    assert await world.watch().read() == ["synced"]


async def test_tokens_expire_with_the_expiries_that_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EXPIRED_REMEMBERED", 2)
    world = Watched()
    world.hub._expired = type(world.hub._expired)(maxlen=2)
    assert EXPIRED_REMEMBERED == 65_536
    early = world.hub.token()
    for key in keys(3):
        world.put(key, b"", expires_at=world.now_ms + 50)
        kept = world.hub.token()
        world.tick(0.2)
        early = kept if key == keys(1)[0] else early
    with pytest.raises(WatchExpired):
        world.watch(since=early)
    assert await world.watch(since=kept).read() == ["expire k00002", "synced"]


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
