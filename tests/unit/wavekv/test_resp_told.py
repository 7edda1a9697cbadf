"""Clients that are told of changes: subscribers to key events, and clients that keep a cache."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio as redis
from redis.exceptions import ResponseError

from tests.fakes.planes import Plane, plane, resp_plane
from wavekv.config import Limits
from wavekv.errors import SlowReader

LIMITS = replace(
    Limits(), resp_subscriptions_max=4, resp_patterns_max=2, resp_prefixes_max=2, resp_tracked_bytes_max=1000,
    resp_push_bytes_max=20_000,
)  # fmt: skip


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        yield serving


class Raw:
    """A connection whose lines are read one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: str, answers: int = 1) -> list[bytes]:
        self.writer.write(line.encode() + b"\r\n")
        return [await self.value() for _ in range(answers)]

    async def value(self) -> bytes:
        """The next value, nested ones in brackets."""
        line = (await asyncio.wait_for(self.reader.readline(), 5)).rstrip(b"\r\n")
        if line[:1] == b"$" and line != b"$-1":
            return (await self.reader.readexactly(int(line[1:]) + 2))[:-2]
        if line[:1] in {b"*", b">", b"~"}:
            return line[:1] + b"[" + b" ".join([await self.value() for _ in range(int(line[1:]))]) + b"]"
        if line[:1] == b"%":
            return b"%[" + b" ".join([await self.value() for _ in range(2 * int(line[1:]))]) + b"]"
        return line


@pytest.fixture
async def raw(resp: Plane) -> AsyncIterator[Raw]:
    connection = Raw(*await asyncio.open_connection("127.0.0.1", resp.port))
    await connection.ask("HELLO 3")
    yield connection
    connection.writer.close()


# ---- subscribers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proto", [2, 3])
async def test_a_subscriber_hears_of_every_change_in_redis_words(resp: Plane, proto: int) -> None:
    async with redis.Redis(port=resp.port, protocol=proto) as client, client.pubsub() as subscriber:
        await subscriber.subscribe("__keyspace@0__:k", "__keyevent@0__:expired")
        await subscriber.psubscribe("__key*__:u:*")
        for number in (1, 2, 3):
            assert (await subscriber.get_message(timeout=5))["data"] == number
        await client.set("k", "1")
        await client.set("u:1", "1", px=1000)
        await client.set("other", "1")
        await client.delete("k")
        resp.clock.seconds += 1.0
        resp.store.expire_due()
        heard = [await subscriber.get_message(timeout=5) for _ in range(6)]
        assert [(one["type"], one["channel"], one["data"]) for one in heard] == [
            ("message", b"__keyspace@0__:k", b"set"),
            ("pmessage", b"__keyspace@0__:u:1", b"set"),
            ("pmessage", b"__keyspace@0__:u:1", b"expire"),
            ("message", b"__keyspace@0__:k", b"del"),
            ("pmessage", b"__keyspace@0__:u:1", b"expired"),
            ("message", b"__keyevent@0__:expired", b"u:1"),
        ]
        await subscriber.unsubscribe()
        await subscriber.punsubscribe()
        for _ in range(3):
            assert "unsubscribe" in (await subscriber.get_message(timeout=5))["type"]
        assert not resp.store.watches or resp.server._shared.events._task is None
        assert await client.pubsub_channels() == []


async def test_what_was_written_before_is_not_told(resp: Plane, raw: Raw) -> None:
    for number in range(300):
        await resp.store.put(f"k{number}", b"v")
    await raw.ask("PSUBSCRIBE *")
    await resp.store.put("new", b"v")
    assert await raw.value() == b">[pmessage * __keyspace@0__:new set]"


async def test_channels_that_would_say_nothing_are_refused(raw: Raw) -> None:
    for words in ("SUBSCRIBE news", "PSUBSCRIBE news.*"):
        assert b"only channels of key events" in (await raw.ask(words))[0]
    assert (await raw.ask("PUBLISH a b"))[0].startswith(b"-ERR PUBLISH is not taken: members pass on what keys hold")


async def test_a_subscriber_in_resp2_may_send_little_else(resp: Plane) -> None:
    one = Raw(*await asyncio.open_connection("127.0.0.1", resp.port))
    await one.ask("SUBSCRIBE __keyspace@0__:a")
    assert (await one.ask("GET a"))[0].startswith(b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE")
    assert (await one.ask("PING"))[0] == b"*[pong ]"
    assert (await one.ask("RESET"))[0] == b"+RESET"
    assert (await one.ask("GET a"))[0] == b"$-1"
    one.writer.close()


async def test_subscriptions_and_patterns_have_bounds(resp: Plane, raw: Raw) -> None:
    names = " ".join(f"__keyspace@0__:{letter}" for letter in "abcde")
    answers = await raw.ask(f"SUBSCRIBE {names}", 5)
    assert answers[3] == b">[subscribe __keyspace@0__:d :4]"
    assert answers[4].startswith(b"-ERR a connection subscribes 4 times at most")
    assert resp.server._shared.sessions[1].held_bytes > 4 * 200
    await raw.ask("RESET")
    assert resp.server._shared.sessions[1].held_bytes == 0
    await raw.ask("PSUBSCRIBE __key*a __key*b", 2)
    assert b"2 different patterns" in (await raw.ask("PSUBSCRIBE __key*c"))[0]


async def test_a_subscriber_that_reads_nothing_is_cut(resp: Plane, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", resp.port, limit=1)
    sock = writer.get_extra_info("socket")
    writer.write(b"PSUBSCRIBE *\r\n")
    await reader.readexactly(1)
    writer.transport.pause_reading()
    assert sock is not None
    key = "k" * 1000
    for _ in range(20_000):
        await resp.store.put(key, b"v")
        if not resp.server._connections:
            break
    assert not resp.server._connections
    assert "it does not take what it is told of changes" in caplog.text
    assert resp.server._shared.budget.used == 0
    writer.close()


# ---- caches ----------------------------------------------------------------------------------------------------------


async def test_a_key_that_was_read_is_told_once_when_it_changes(resp: Plane, raw: Raw) -> None:
    await resp.store.put("a", b"1")
    assert await raw.ask("CLIENT TRACKING ON") == [b"+OK"]
    await raw.ask("GET a")
    await raw.ask("MGET b c")
    await resp.store.put("a", b"2")
    assert await raw.value() == b">[invalidate *[a]]"
    await resp.store.put("a", b"3")
    await resp.store.batch([])
    await resp.store.put("c", b"1")
    assert await raw.value() == b">[invalidate *[c]]"


@pytest.mark.parametrize("how", ["expire", "delete", "own"])
async def test_every_way_to_change_is_told(resp: Plane, raw: Raw, how: str) -> None:
    await resp.store.put("a", b"1", expires_at=1000)
    await raw.ask("CLIENT TRACKING ON")
    await raw.ask("GET a")
    if how == "expire":
        resp.clock.seconds += 1.0
        resp.store.expire_due()
    elif how == "delete":
        await resp.store.delete("a")
    else:
        assert await raw.ask("SET a 2") == [b"+OK"]
    assert await raw.value() == b">[invalidate *[a]]"


async def test_own_writes_are_not_told_with_noloop(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON NOLOOP BCAST PREFIX a PREFIX b")
    assert await raw.ask("SET a1 2") == [b"+OK"]
    await resp.store.put("other", b"1")
    await resp.store.put("b1", b"1")
    assert await raw.value() == b">[invalidate *[b1]]"


async def test_optin_and_optout_follow_what_was_said_of_the_command(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON OPTIN")
    await raw.ask("GET a")
    await raw.ask("CLIENT CACHING YES")
    await raw.ask("GET b")
    await raw.ask("GET c")
    for key in "abc":
        await resp.store.put(key, b"1")
    assert await raw.value() == b">[invalidate *[b]]"
    await raw.ask("CLIENT TRACKING OFF")
    await raw.ask("CLIENT TRACKING ON OPTOUT")
    await raw.ask("CLIENT CACHING NO")
    await raw.ask("GET a")
    await raw.ask("GET b")
    for key in "ab":
        await resp.store.put(key, b"2")
    assert await raw.value() == b">[invalidate *[b]]"


async def test_missed_changes_let_the_client_forget_all(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON")
    await raw.ask("GET a")
    await asyncio.sleep(0)
    await resp.store.put("x", b"1")
    (watch,) = resp.store.watches
    watch.fail(SlowReader("too slow"))
    resp.store.commit()
    for _ in range(2):
        asyncio.get_running_loop().create_task(resp.store.put("x", b"2"))
    resp.store.forgotten = len(resp.store._changes) + 2
    await asyncio.sleep(0)
    resp.store.commit()
    assert await raw.value() == b">[invalidate _]"


async def test_a_cut_watch_goes_on_where_it_stood(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON")
    await raw.ask("GET a")
    await asyncio.sleep(0)
    (watch,) = resp.store.watches
    watch.fail(SlowReader("too slow"))
    await resp.store.put("a", b"1")
    assert await raw.value() == b">[invalidate *[a]]"


async def test_what_is_remembered_is_bounded_and_the_oldest_is_told(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON")
    for key in ("a", "b", "c"):
        await raw.ask(f"GET {key}")
    assert resp.server._shared.tracker.held_bytes <= LIMITS.resp_tracked_bytes_max
    await raw.ask("GET d")
    assert await raw.value() == b">[invalidate *[a]]"
    assert resp.server._shared.tracker.held_bytes <= LIMITS.resp_tracked_bytes_max
    await raw.ask("CLIENT TRACKING OFF")
    assert resp.server._shared.tracker.held_bytes == 0


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("ON PREFIX a", "PREFIX option requires BCAST mode"),
        ("ON BCAST OPTIN", "OPTIN and OPTOUT are not compatible with BCAST"),
        ("ON OPTIN OPTOUT", "You can't specify both OPTIN mode and OPTOUT mode"),
        ("ON BCAST PREFIX ab PREFIX a", "overlaps with an existing prefix"),
        ("ON BCAST PREFIX a PREFIX b PREFIX c", "2 prefixes at most"),
        ("ON REDIRECT 5", "REDIRECT is not supported"),
        ("MAYBE", "syntax error"),
    ],
)
async def test_what_does_not_go_together_is_refused(raw: Raw, words: str, refusal: str) -> None:
    (answer,) = await raw.ask(f"CLIENT TRACKING {words}")
    assert refusal.encode() in answer
    assert b"off" in (await raw.ask("CLIENT TRACKINGINFO"))[0]


async def test_tracking_needs_resp3_and_bounded_reads(resp: Plane, raw: Raw) -> None:
    async with redis.Redis(port=resp.port, protocol=2) as client:
        with pytest.raises(ResponseError, match="needs RESP3"):
            await client.execute_command("CLIENT TRACKING ON")
    await raw.ask("CLIENT TRACKING ON")
    assert b"512 of them at once" in (await raw.ask("EXISTS " + "k " * 513))[0]
    assert await raw.ask("EXISTS " + "k " * 512) == [b":0"]


async def test_a_client_that_leaves_is_told_nothing_and_nobody_watches(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON")
    await raw.ask("GET a")
    raw.writer.close()
    await asyncio.gather(*(one.lost for one in resp.server._connections))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert resp.server._shared.events._task is None
    assert resp.server._shared.budget.used == 0
    assert resp.store.watches == set()


async def test_keys_read_in_a_transaction_are_told_behind_its_reply(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON")
    await raw.ask("MULTI")
    await raw.ask("GET a")
    await raw.ask("SET b 1")
    assert await raw.ask("EXEC") == [b"*[_ +OK]"]
    await resp.store.put("a", b"1")
    assert await raw.value() == b">[invalidate *[a]]"


async def test_an_error_nobody_expected_lets_caches_forget_all(
    resp: Plane, raw: Raw, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wavekv.resp.events._AGAIN_SECONDS", 0.0)
    await raw.ask("CLIENT TRACKING ON")
    await raw.ask("GET a")
    await asyncio.sleep(0)
    (watch,) = resp.store.watches
    watch.fail(RuntimeError("a defect"))
    assert await raw.value() == b">[invalidate _]"
    assert "were not told of changes" in caplog.text
    await raw.ask("GET a")
    await resp.store.put("a", b"1")
    assert await raw.value() == b">[invalidate *[a]]"
