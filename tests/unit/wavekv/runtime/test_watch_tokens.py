"""Tokens of watches and expiries: where a watch may resume, what it is told then, and when a value's end is told."""

from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS
from tests.fakes.watched import Watched
from wavekv.errors import InvalidParameter, WatchExpired
from wavekv.runtime import watching
from wavekv.runtime.watching import EXPIRED_REMEMBERED, PAGE_ENTRIES


def keys(count: int) -> list[str]:
    return [f"k{number:05}" for number in range(count)]


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
