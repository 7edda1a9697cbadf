"""Many keys at once, walks over them, and what clients ask a server when they start, with a real client."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio as redis

from tests.fakes.planes import Plane, plane, resp_plane
from tests.fakes.resp_clients import said
from wavekv.config import Limits

LIMITS = replace(Limits(), resp_keys_max=5, resp_cursors_max=2, resp_replies_bytes_max=100, batch_operations_max=4)


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        yield serving


@pytest.fixture(params=[2, 3])
async def client(resp: Plane, request: pytest.FixtureRequest) -> AsyncIterator[redis.Redis]:
    async with redis.Redis(port=resp.port, protocol=request.param) as connected:
        yield connected


async def test_several_values_are_stored_together_and_read_together(resp: Plane, client: redis.Redis) -> None:
    assert await client.mset({"a": "1", "b": "2", "c": "3", "d": "4"}) is True
    assert resp.store.commits == 1
    assert await client.mget("b", "none", "a", "b") == [b"2", None, b"1", b"2"]
    assert ("resp", "batch", "ok") in resp.operations.seen


async def test_several_values_above_a_bound_are_refused_and_nothing_is_stored(resp: Plane, client: redis.Redis) -> None:
    assert "batch_too_large" in await said(client, "MSETNX", *["k", "v"] * 5)
    assert "value_too_large" in await said(client, "MSET", *["k", "v"] * 4, "k", "v" * (LIMITS.value_bytes_max + 1))
    assert "invalid_key" in await said(client, "MSET", "a", "1", "", "2")
    assert resp.store.entries == {}
    await client.mset({"a": "v" * 50, "b": "v" * 50, "c": "v"})
    assert len(await client.mget("a", "b")) == 2
    assert "batch_too_large" in await said(client, "MGET", "a", "b", "c")


@pytest.mark.parametrize("count", [1, 2, 7, 1000, None])
async def test_a_scan_tells_every_key_once_and_in_order(client: redis.Redis, count: int | None) -> None:
    names = [f"k/{number:02}" for number in range(25)]
    for name in [*names, "j", "l"]:
        await client.set(name, "")
    assert [key.decode() async for key in client.scan_iter("k/*", count=count)] == names
    assert len([key async for key in client.scan_iter(count=count)]) == 27
    assert [key async for key in client.scan_iter(_type="list")] == []


async def test_a_scan_goes_on_over_another_connection_and_past_deleted_keys(resp: Plane, client: redis.Redis) -> None:
    for letter in "abcd":
        await client.set(letter, "")
    cursor, first = await client.scan(count=2)
    await client.delete("b", "c")
    async with redis.Redis(port=resp.port) as other:
        assert await other.scan(cursor) == (0, [b"d"])
        assert await other.scan(cursor) == (0, [b"d"]), "an answer that was lost can be asked for again"
    assert first == [b"a", b"b"]


async def test_a_cursor_outlives_all_that_others_begin(client: redis.Redis) -> None:
    names = [f"k{number:03}" for number in range(60)]
    for name in names:
        await client.set(name, "")
    slow, told = await client.scan(count=7)
    for count in range(1, 30):
        assert {key async for key in client.scan_iter(count=count)} == {name.encode() for name in names}
    while slow:
        assert 0 < slow < 1 << 53
        slow, more = await client.scan(slow, count=7)
        told += more
    assert {key.decode() for key in told} == set(names)


async def test_a_cursor_of_another_process_is_refused(client: redis.Redis) -> None:
    await client.mset({"a": "", "b": ""})
    cursor, _ = await client.scan(count=1)
    for foreign in (cursor ^ 1 << 41, 1 << 53, (1 << 64) - 1):
        assert "invalid cursor" in await said(client, "SCAN", foreign)
    for cursor in ("x", "-1", "18446744073709551616", "1" * 500):
        assert await said(client, "SCAN", cursor) == "invalid cursor"


@pytest.mark.parametrize("words", ["0 COUNT", "0 COUNT 0", "0 COUNT -1", "0 FOO 1", "0 MATCH"])
async def test_a_malformed_scan_is_a_syntax_error(client: redis.Redis, words: str) -> None:
    assert await said(client, "SCAN", *words.split()) == "syntax error"
    assert await said(client, "SCAN", "0", "COUNT", "x") == "value is not an integer or out of range"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", "a* a1 b"),
        ("a*", "a* a1"),
        ("a**", "a* a1"),
        ("a\\*", "a*"),
        ("a\\**", "a*"),
        ("b", "b"),
        ("c", ""),
        ("", ""),
    ],
)
async def test_a_pattern_is_a_prefix_or_a_whole_key(client: redis.Redis, pattern: str, found: str) -> None:
    for name in ("a*", "a1", "b"):
        await client.set(name, "")
    assert sorted(await client.keys(pattern)) == [name.encode() for name in found.split()]
    assert [key async for key in client.scan_iter(pattern)] == [name.encode() for name in found.split()]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*b", "ab xb"),
        ("a?", "ab"),
        ("[ax]b", "ab xb"),
        ("a*c", "abc"),
        ("*", "ab abc xb \xe4\xe5"),
        ("x\\b", "xb"),
        ("[^a]*", "xb \xe4\xe5"),
        (b"\xff*", ""),
        (b"\xc3*", "\xe4\xe5"),
        (b"*\xa5", "\xe4\xe5"),
    ],
)
async def test_any_pattern_is_taken(client: redis.Redis, pattern: str | bytes, found: str) -> None:
    await client.mset(dict.fromkeys(["ab", "abc", "xb", "\xe4\xe5"], ""))
    expected = [name.encode() for name in found.split()]
    assert await client.keys(pattern) == expected
    assert [key async for key in client.scan_iter(pattern, count=2)] == expected


async def test_a_pattern_of_exactly_the_bound_is_taken(client: redis.Redis) -> None:
    most = Limits().resp_pattern_bytes_max
    await client.set("a", "")
    assert await client.keys("*" * most) == [b"a"]
    assert "at most" in await said(client, "KEYS", "*" * (most + 1))


async def test_keys_answers_up_to_its_bound_and_is_refused_above(client: redis.Redis) -> None:
    for letter in "abcde":
        await client.set(letter, "")
    assert len(await client.keys()) == 5
    await client.set("f", "")
    assert "use SCAN" in await said(client, "KEYS", "*")
    assert await client.dbsize() == 6


async def test_a_client_can_name_itself_and_look_around(client: redis.Redis) -> None:
    assert await client.client_getname() is None
    assert await client.client_setname("me") is True
    assert await client.client_getname() in {"me", b"me"}
    assert "spaces" in await said(client, "CLIENT", "SETNAME", "a b")
    number = await client.client_id()
    listed = await client.client_list()
    assert [entry["name"] for entry in listed if int(entry["id"]) == number] == ["me"]
    assert "unknown subcommand" in await said(client, "CLIENT", "KILL", "x")
    assert "wrong number" in await said(client, "CLIENT", "SETNAME")
    assert await client.echo("hello") == b"hello"


async def test_the_server_describes_itself(resp: Plane, client: redis.Redis) -> None:
    await client.set("k", "v")
    await client.set("e", "v", ex=60)
    resp.clock.seconds += 7
    facts = await client.info()
    assert (facts["server_name"], facts["uptime_in_seconds"], facts["role"]) == ("wavekv", 7, "master")
    assert facts["db0"] == {"keys": 2, "expires": 1, "avg_ttl": 0}
    assert set(await client.info("clients")) == {"connected_clients", "maxclients"}
    assert await client.config_get("max*") == {
        "maxclients": "4096", "maxmemory": str(1 << 30), "maxmemory-policy": "noeviction"
    }  # fmt: skip
    assert await client.config_get("nothing") == {}
    assert "not supported" in await said(client, "CONFIG", "SET", "maxclients", "5")
    assert await client.select(0) in {True, b"OK"}
    assert await said(client, "SELECT", 1) == "DB index is out of range"


async def test_a_key_that_is_there_is_a_string(client: redis.Redis) -> None:
    await client.set("k", "v")
    assert [await client.type(key) for key in ("k", "absent")] == [b"string", b"none"]
    assert "invalid_key" in await said(client, "TYPE", "")


async def test_the_commands_are_listed_as_clients_read_them(client: redis.Redis) -> None:
    count = await client.command_count()
    listed = await client.command()
    assert len(listed) == count
    assert (listed["get"]["arity"], listed["set"]["arity"], listed["mset"]["step_count"]) == (2, -3, 2)
    assert not await client.execute_command("COMMAND", "DOCS", "get")
    assert "unknown subcommand" in await said(client, "COMMAND", "FOO")


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
@pytest.mark.parametrize("version", ["-2", "-3"])
async def test_redis_cli_starts_and_works_without_an_error(resp: Plane, version: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "redis-cli", version, "-p", str(resp.port), stdin=-1, stdout=-1, stderr=-1
    )  # fmt: skip
    out, err = await process.communicate(b"SET k v EX 5\nGET k\nTTL k\nSCAN 0\nCOMMAND COUNT\nINFO server\n")
    assert (process.returncode, err) == (0, b"")
    assert out.split(b"\n")[:3] == [b"OK", b"v", b"5"]
    assert b"ERR" not in out
