"""Transactions of one member: decided together, stored as one batch, and nothing of it if a watched key changed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio as redis
from redis.exceptions import ExecAbortError, ResponseError, WatchError

from tests.fakes.planes import Plane, plane, resp_plane
from wavekv.config import Limits
from wavekv.errors import DiskFull

LIMITS = replace(Limits(), resp_queued_max=300, resp_watched_max=3, resp_replies_bytes_max=2000)


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        yield serving


@pytest.fixture(params=[2, 3])
async def client(resp: Plane, request: pytest.FixtureRequest) -> AsyncIterator[redis.Redis]:
    async with redis.Redis(port=resp.port, protocol=request.param) as connected:
        yield connected


async def test_a_pipeline_of_redis_py_is_one_batch_and_sees_its_own_writes(resp: Plane, client: redis.Redis) -> None:
    await client.set("old", "0")
    commits = resp.store.commits
    pipe = client.pipeline().set("a", "1").get("a").append("a", "2").set("a", "9", nx=True).get("a").delete("old")
    pipe.exists("old").mset({"b": "x", "c": "y"}).getdel("b").rename("c", "d").expire("d", 100).dbsize().ttl("d")
    assert await pipe.execute() == [True, b"1", 2, None, b"12", 1, 0, True, b"x", True, True, 2, 100]
    assert resp.store.commits == commits + 1
    assert await client.mget("a", "b", "c", "d", "old") == [b"12", None, None, b"y", None]


async def test_nothing_is_visible_before_all_of_it_is(resp: Plane, client: redis.Redis) -> None:
    resp.store.hold = True
    async with redis.Redis(port=resp.port) as other:
        executing = asyncio.create_task(client.pipeline().set("a", "1").set("b", "2").execute())
        while resp.store.most_waiting < 2:
            assert await other.mget("a", "b") == [None, None]
        resp.store.hold = False
        resp.store.commit()
        assert await executing == [True, True]
        assert await other.mget("a", "b") == [b"1", b"2"]


async def test_a_command_that_fails_does_not_undo_the_others(client: redis.Redis) -> None:
    results = await client.pipeline().set("a", "1").rename("none", "x").set("b", "2").execute(raise_on_error=False)
    assert [results[0], results[2]] == [True, True]
    assert isinstance(results[1], ResponseError)
    assert await client.mget("a", "b") == [b"1", b"2"]


async def test_what_cannot_be_stored_is_said_once_and_nothing_is_stored(
    resp: Plane, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(writes: object) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(resp.store, "batch", full)
    with pytest.raises(ResponseError, match="disk_full"):
        await client.pipeline().set("a", "1").get("a").execute()
    assert resp.store.entries == {}


@pytest.mark.parametrize("change", ["set", "delete", "expire", "none"])
async def test_a_watched_key_that_changes_stops_the_transaction(resp: Plane, client: redis.Redis, change: str) -> None:
    await client.set("k", "1", px=1000)
    async with redis.Redis(port=resp.port) as other, client.pipeline() as pipe:
        await pipe.watch("k", "absent")
        if change == "set":
            await other.set("k", "1")
        elif change == "delete":
            await other.delete("k")
        elif change == "expire":
            resp.clock.seconds += 1.0
        pipe.multi()
        pipe.set("result", "1")
        if change == "none":
            assert await pipe.execute() == [True]
        else:
            with pytest.raises(WatchError):
                await pipe.execute()
    assert await client.get("result") == (b"1" if change == "none" else None)


async def test_a_watched_key_that_another_is_writing_stops_the_transaction(resp: Plane, client: redis.Redis) -> None:
    async with client.pipeline() as pipe:
        await pipe.watch("k")
        resp.store.hold = True
        writing = asyncio.create_task(resp.store.put("k", b"theirs"))
        pipe.multi()
        pipe.set("result", "1")
        with pytest.raises(WatchError):
            await pipe.execute()
        resp.store.commit()
        await writing
    assert await client.get("result") is None


async def test_a_long_transaction_that_is_overtaken_loses_nothing(resp: Plane, client: redis.Redis) -> None:
    async def appending(count: int) -> None:
        async with redis.Redis(port=resp.port) as other:
            for _ in range(count):
                await other.append("k", "x")

    appends = asyncio.create_task(appending(200))
    pipe = client.pipeline()
    for _ in range(LIMITS.resp_queued_max):
        pipe.append("k", "y")
    lengths = await pipe.execute()
    await appends
    assert lengths == list(range(lengths[0], lengths[0] + LIMITS.resp_queued_max))
    assert await client.strlen("k") == 200 + LIMITS.resp_queued_max


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("SCAN 0", "Command not allowed inside a transaction"),
        ("WAIT 1 1", "Command not allowed inside a transaction"),
        ("NONSENSE x", "unknown command"),
        ("GET", "wrong number of arguments for 'get' command"),
    ],
)
async def test_what_cannot_be_part_is_refused_at_once_and_exec_too(
    resp: Plane, client: redis.Redis, words: str, refusal: str
) -> None:
    async with client.client() as one:
        await one.execute_command("MULTI")
        await one.execute_command("SET", "a", "1")
        with pytest.raises(ResponseError, match=refusal):
            await one.execute_command(*words.split())
        with pytest.raises(ExecAbortError, match="previous errors"):
            await one.execute_command("EXEC")
        assert await one.get("a") is None
    assert resp.server._shared.sessions[1].held_bytes == 0


async def test_words_out_of_place_are_refused_as_redis_does(client: redis.Redis) -> None:
    async with client.client() as one:
        for words, refusal in (("EXEC", "EXEC without MULTI"), ("DISCARD", "DISCARD without MULTI")):
            with pytest.raises(ResponseError, match=refusal):
                await one.execute_command(words)
        await one.execute_command("MULTI")
        with pytest.raises(ResponseError, match="MULTI calls can not be nested"):
            await one.execute_command("MULTI")
        with pytest.raises(ResponseError, match="WATCH inside MULTI is not allowed"):
            await one.execute_command("WATCH", "k")
        await one.execute_command("SET", "a", "1")
        assert await one.execute_command("DISCARD")
        assert await one.get("a") is None
        await one.execute_command("MULTI")
        assert await one.execute_command("EXEC") == []


async def test_queued_commands_watched_keys_and_replies_have_bounds(resp: Plane, client: redis.Redis) -> None:
    pipe = client.pipeline()
    for number in range(LIMITS.resp_queued_max + 1):
        pipe.set(f"k{number}", "v")
    with pytest.raises(ResponseError, match="a transaction has 300 commands at most"):
        await pipe.execute()
    assert resp.store.entries == {}
    async with client.client() as one:
        await one.execute_command("WATCH", "a", "b", "c", "a")
        with pytest.raises(ResponseError, match="watches 3 keys at most"):
            await one.execute_command("WATCH", "d")
        assert resp.server._shared.sessions[one.connection and 1].held_bytes > 0
        await one.execute_command("UNWATCH")
        await one.execute_command("WATCH", "d", "e", "f")
    await client.set("large", "v" * 600)
    assert len(await client.pipeline().get("large").get("large").get("large").execute()) == 3
    with pytest.raises(ResponseError, match="replies of the transaction exceed"):
        await client.pipeline().set("x", "1").get("large").get("large").get("large").get("large").execute()
    assert await client.get("x") is None


async def test_a_client_that_leaves_takes_what_it_queued_with_it(resp: Plane) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", resp.port)
    writer.write(b"MULTI\r\n" + b"SET a 1\r\n")
    assert await reader.readexactly(14) == b"+OK\r\n+QUEUED\r\n"
    writer.close()
    await asyncio.gather(*(one.lost for one in resp.server._connections))
    assert resp.store.entries == {}
    assert resp.server._shared.budget.used == 0


@pytest.mark.parametrize("long", ["delete", "mset", "flush", "exec"])
async def test_a_write_of_several_turns_never_overtakes_what_came_behind_it(resp: Plane, long: str) -> None:
    many = [f"k{number}" for number in range(2500)]
    reader, writer = await asyncio.open_connection("127.0.0.1", resp.port)
    await resp.store.put("k2400", b"before")

    def words(*given: str) -> bytes:
        return b"*%d\r\n" % len(given) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in given)

    commands = {
        "delete": words("DEL", *many),
        "mset": words("MSET", *(word for key in many for word in (key, "many"))),
        "flush": words("FLUSHDB"),
        "exec": words("MULTI") + b"".join(words("SET", "k2400", "many") for _ in range(250)) + words("EXEC"),
    }
    writer.write(commands[long] + words("SET", "k2400", "behind") + words("ECHO", "end"))
    await asyncio.wait_for(reader.readuntil(b"$3\r\nend\r\n"), 10)
    assert resp.store.get("k2400").value == b"behind"
    writer.close()
