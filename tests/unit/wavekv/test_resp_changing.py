"""Commands that look before they write, and those about one key, with a real client."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio as redis

from tests.fakes.planes import Plane, plane, resp_plane
from tests.fakes.resp_clients import said
from wavekv.config import Limits

LIMITS = replace(Limits(), value_bytes_max=100)


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        yield serving


@pytest.fixture(params=[2, 3])
async def client(resp: Plane, request: pytest.FixtureRequest) -> AsyncIterator[redis.Redis]:
    async with redis.Redis(port=resp.port, protocol=request.param) as connected:
        yield connected


async def test_parts_of_values_are_read_and_written(client: redis.Redis) -> None:
    assert await client.append("k", "Hello") == 5
    assert await client.append("k", " World") == 11
    assert await client.getrange("k", 0, 4) == b"Hello"
    assert await client.getrange("k", -5, -1) == b"World"
    assert await client.getrange("k", 3, 1) == await client.getrange("none", 0, -1) == b""
    assert await client.setrange("k", 6, "Redis") == 11
    assert await client.get("k") == b"Hello Redis"
    assert await client.setrange("padded", 3, "x") == 4
    assert await client.get("padded") == b"\0\0\0x"
    assert await client.setrange("none", 5, "") == 0
    assert await client.exists("none") == 0


async def test_a_value_may_grow_to_its_bound_and_no_further(client: redis.Redis) -> None:
    assert await client.append("k", "v" * 100) == 100
    assert "value_too_large" in await said(client, "APPEND", "k", "v")
    assert await client.setrange("k", 99, "x") == 100
    assert "maximum allowed size" in await said(client, "SETRANGE", "k", 100, "x")
    assert "offset is out of range" in await said(client, "SETRANGE", "k", -1, "x")
    assert await client.strlen("k") == 100


async def test_changing_a_part_keeps_the_time_to_live_and_setting_anew_does_not(client: redis.Redis) -> None:
    await client.set("k", "1", ex=100)
    await client.append("k", "2")
    await client.setrange("k", 0, "3")
    assert await client.ttl("k") == 100
    assert await client.getset("k", "new") == b"32"
    assert await client.ttl("k") == -1


async def test_appends_of_one_pipeline_share_a_commit_and_none_is_lost(resp: Plane, client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for _ in range(50):
        pipe.append("k", "x")
    assert await pipe.execute() == list(range(1, 51))
    assert resp.store.commits < 10


async def test_appends_of_many_clients_lose_nothing(resp: Plane) -> None:
    async def appends() -> None:
        async with redis.Redis(port=resp.port) as one:
            for _ in range(20):
                await one.append("k", "x")

    await asyncio.gather(appends(), appends(), appends())
    assert resp.store.length_of("k") == 60


async def test_reading_may_delete_or_change_the_time_to_live(resp: Plane, client: redis.Redis) -> None:
    await client.set("k", "v")
    assert await client.getex("k", ex=100) == b"v"
    assert await client.ttl("k") == 100
    assert await client.getex("k", persist=True) == await client.getex("k") == b"v"
    assert await client.ttl("k") == -1
    assert await client.getdel("k") == b"v"
    assert await client.getdel("k") is await client.getex("k", px=5) is None
    resp.clock.seconds = 10.0
    await client.set("k", "v")
    assert await client.getex("k", pxat=1) == b"v"
    assert await client.get("k") is None


async def test_keys_move_and_are_copied_with_their_time_to_live(client: redis.Redis) -> None:
    await client.mset({"a": "1", "b": "2"})
    await client.expire("a", 100)
    assert await client.renamenx("a", "b") is False
    assert await client.rename("a", "b") is True
    assert (await client.get("b"), await client.ttl("b"), await client.exists("a")) == (b"1", 100, 0)
    assert await client.copy("b", "c") is True
    assert await client.copy("b", "c") is False
    await client.set("b", "3")
    assert await client.copy("b", "c", replace=True) is True
    assert await client.mget("b", "c") == [b"3", b"3"]
    assert await client.rename("b", "b") is True
    assert await said(client, "RENAME", "none", "x") == "no such key"
    assert await said(client, "COPY", "b", "b") == "source and destination objects are the same"
    assert await said(client, "COPY", "b", "c", "DB", 1) == "DB index is out of range"


async def test_several_are_set_only_if_none_is_there(client: redis.Redis) -> None:
    assert await client.msetnx({"a": "1", "b": "2"}) is True
    assert await client.msetnx({"b": "3", "c": "4"}) is False
    assert await client.mget("a", "b", "c") == [b"1", b"2", None]


async def test_one_key_can_be_looked_at(resp: Plane, client: redis.Redis) -> None:
    await client.mset({"number": "12", "short": "text", "long": "x" * 45})
    assert [await client.object("encoding", name) for name in ("number", "short", "long")] == [
        b"int",
        b"embstr",
        b"raw",
    ]
    assert await client.object("refcount", "short") == 1
    assert await client.object("encoding", "none") is None
    assert "LFU maxmemory policy is not selected" in await said(client, "OBJECT", "FREQ", "short")
    assert 45 < await client.memory_usage("long") < 300
    assert await client.memory_usage("none") is None
    resp.clock.seconds = 7.5
    assert await client.time() == (7, 500_000)
    assert await client.touch("number", "none", "long") == 2


async def test_random_keys_come_up_all_and_flushing_leaves_none(resp: Plane, client: redis.Redis) -> None:
    assert await client.randomkey() is None
    names = {f"k{number}".encode() for number in range(20)}
    await client.mset(dict.fromkeys(names, ""))
    seen = set()
    for _ in range(2000):
        seen.add(await client.randomkey())
        if seen == names:
            break
    assert seen == names
    assert await client.flushdb() is True
    assert await client.dbsize() == 0
    await client.set("k", "v")
    assert await client.flushall(asynchronous=True) is True
    assert await said(client, "FLUSHDB", "NOW") == "syntax error"


async def test_counters_are_refused_with_the_reason_and_bytes_as_keys_with_a_hint(client: redis.Redis) -> None:
    for words in (("INCR", "n"), ("DECRBY", "n", 1), ("INCRBYFLOAT", "n", "1.5")):
        assert "the last write wins, and of two increments at once one would be lost" in await said(client, *words)
    assert "give the client a serializer that writes text" in await said(client, "GET", b"\xac\xed\x00\x05t\x00\x01k")
