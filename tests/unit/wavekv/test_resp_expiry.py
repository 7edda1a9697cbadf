"""Times to live and the options of SET over the Redis protocol, with a real client in both versions of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from tests.fakes.planes import Plane, plane, resp_plane
from tests.fakes.resp_clients import said
from wavekv.config import Limits

NOW = 1_000_000
LIMITS = Limits(ttl_ms_max=86_400_000)


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        serving.clock.seconds = NOW
        yield serving


@pytest.fixture(params=[2, 3])
async def client(resp: Plane, request: pytest.FixtureRequest) -> AsyncIterator[redis.Redis]:
    async with redis.Redis(port=resp.port, protocol=request.param) as connected:
        yield connected


def expiry(resp: Plane) -> int | None:
    return resp.store.entries["k"].expires_at


@pytest.mark.parametrize(
    ("options", "milliseconds"),
    [
        ({"ex": 5}, 5000),
        ({"px": 5}, 5),
        ({"exat": NOW + 7}, 7000),
        ({"pxat": NOW * 1000 + 8}, 8),
        ({"ex": 86_400}, 86_400_000),
    ],
)
async def test_set_takes_an_expiry_in_four_units(
    resp: Plane, client: redis.Redis, options: dict[str, int], milliseconds: int
) -> None:
    assert await client.set("k", "v", **options) is True
    assert expiry(resp) == NOW * 1000 + milliseconds


async def test_a_plain_set_ends_the_expiry_and_keepttl_keeps_it(resp: Plane, client: redis.Redis) -> None:
    await client.set("k", "v", ex=5)
    await client.set("k", "w", keepttl=True)
    assert expiry(resp) == NOW * 1000 + 5000
    await client.set("k", "w")
    assert expiry(resp) is None
    await client.set("new", "w", keepttl=True)
    assert await client.ttl("new") == -1


async def test_set_with_get_answers_what_was_there(client: redis.Redis) -> None:
    assert await client.set("k", "1", get=True) is None
    assert await client.set("k", "2", get=True, ex=5) == b"1"
    assert await client.set("k", "3", nx=True, get=True) == b"2"
    assert await client.get("k") == b"2"
    assert await client.set("k", "3", xx=True, get=True) == b"2"
    assert await client.set("none", "3", xx=True, get=True) is None
    assert await client.get("none") is None
    assert await client.set("none", "3", nx=True, get=True) is None
    assert await client.get("none") == b"3"


@pytest.mark.parametrize(
    "options",
    [
        "NX XX",
        "XX NX",
        "EX",
        "EX 5 PX 5",
        "EX 5 KEEPTTL",
        "KEEPTTL PXAT 5",
        "FOO",
        "EX 5 5",
        "GET XX NX",
        "PERSIST",
        "NX 5",
    ],
)
async def test_options_that_do_not_go_together_are_a_syntax_error(
    resp: Plane, client: redis.Redis, options: str
) -> None:
    assert await said(client, "SET", "k", "v", *options.split()) == "syntax error"
    assert resp.store.entries == {}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("SET k v EX 0", "invalid expire time in 'set' command"),
        ("SET k v PX -1", "invalid expire time in 'set' command"),
        ("SET k v PXAT 0", "invalid expire time in 'set' command"),
        ("SET k v EX 86401", "invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775807", "invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775808", "value is not an integer or out of range"),
        ("SET k v EX 1.5", "value is not an integer or out of range"),
        ("SET k v EX x", "value is not an integer or out of range"),
        ("SETEX k 0 v", "invalid expire time in 'setex' command"),
        ("PSETEX k 0 v", "invalid expire time in 'psetex' command"),
        ("SETEX k x v", "value is not an integer or out of range"),
        ("EXPIRE k x", "value is not an integer or out of range"),
        ("EXPIRE k 86401", "invalid expire time in 'expire' command"),
        ("PEXPIREAT k 9223372036854775807", "invalid expire time in 'pexpireat' command"),
        ("EXPIRE k 5 FOO", "Unsupported option FOO"),
        ("EXPIRE k 5 NX GT", "NX and XX, GT or LT options at the same time are not compatible"),
        ("EXPIRE k 5 GT LT", "GT and LT options at the same time are not compatible"),
        ("EXPIRE k", "wrong number of arguments for 'expire' command"),
        ("MSET k", "wrong number of arguments for 'mset' command"),
        ("MSET k v l", "wrong number of arguments for 'mset' command"),
    ],
)
async def test_what_is_no_expiry_is_refused_in_redis_own_words(
    resp: Plane, client: redis.Redis, words: str, error: str
) -> None:
    assert await said(client, *words.split()) == error
    assert resp.store.entries == {}


async def test_the_remaining_time_is_told_in_four_units(resp: Plane, client: redis.Redis) -> None:
    await client.set("k", "v", px=5499)
    assert [await client.ttl("k"), await client.pttl("k")] == [5, 5499]
    assert [await client.expiretime("k"), await client.pexpiretime("k")] == [NOW + 5, NOW * 1000 + 5499]
    await client.set("k", "v")
    for ask in (client.ttl, client.pttl, client.expiretime, client.pexpiretime):
        assert [await ask("k"), await ask("none")] == [-1, -2]


async def test_an_expired_key_is_gone_at_its_very_millisecond(resp: Plane, client: redis.Redis) -> None:
    await client.set("k", "v", px=1500)
    resp.clock.seconds += 1.499
    assert [await client.get("k"), await client.pttl("k")] == [b"v", 1]
    resp.clock.seconds += 0.001
    assert [await client.get("k"), await client.ttl("k"), await client.exists("k")] == [None, -2, 0]


@pytest.mark.parametrize(
    ("command", "amount", "milliseconds"),
    [("EXPIRE", 5, 5000), ("PEXPIRE", 5, 5), ("EXPIREAT", NOW + 9, 9000), ("PEXPIREAT", NOW * 1000 + 9, 9)],
)
async def test_expire_changes_the_expiry_of_a_value_that_is_there(
    resp: Plane, client: redis.Redis, command: str, amount: int, milliseconds: int
) -> None:
    assert await client.execute_command(command, "k", amount) == 0
    await client.set("k", "v")
    assert await client.execute_command(command, "k", amount) == 1
    assert (await client.get("k"), expiry(resp)) == (b"v", NOW * 1000 + milliseconds)
    assert await client.persist("k") == 1
    assert (await client.get("k"), expiry(resp)) == (b"v", None)
    assert [await client.persist("k"), await client.persist("none")] == [0, 0]


@pytest.mark.parametrize(("command", "amount"), [("EXPIRE", 0), ("EXPIRE", -1), ("PEXPIREAT", 1), ("EXPIREAT", 0)])
async def test_an_expiry_that_is_past_deletes(resp: Plane, client: redis.Redis, command: str, amount: int) -> None:
    await client.set("k", "v")
    assert await client.execute_command(command, "k", amount) == 1
    assert resp.store.entries["k"].value is None
    assert await client.execute_command(command, "k", amount) == 0
    await client.set("k", "v")
    assert await client.set("k", "w", exat=1) is True
    assert await client.get("k") is None


async def test_flags_say_which_expiry_may_be_replaced(client: redis.Redis) -> None:
    async def expire(seconds: int, *flags: str) -> int:
        return int(await client.execute_command("EXPIRE", "k", seconds, *flags))

    await client.set("k", "v")
    assert [await expire(5, "XX"), await expire(5, "GT"), await expire(5, "nx"), await expire(5, "NX")] == [0, 0, 1, 0]
    assert [await expire(5, "GT"), await expire(6, "GT"), await expire(6, "LT"), await expire(4, "LT", "XX")] == [
        0,
        1,
        0,
        1,
    ]
    await client.persist("k")
    assert [await expire(5, "LT", "XX"), await expire(5, "LT")] == [0, 1]


async def test_commands_of_one_pipeline_see_the_writes_before_them(client: redis.Redis) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        for _ in range(3):
            pipeline.set("k", "v").expire("k", 5).expire("k", 9, gt=True).ttl("k").persist("k").ttl("k")
        assert await pipeline.execute() == [True, True, True, 9, True, -1] * 3


async def test_a_flag_is_judged_by_the_value_another_client_is_writing(resp: Plane, client: redis.Redis) -> None:
    await client.set("k", "old", ex=7)
    resp.store.hold = True
    async with redis.Redis(port=resp.port) as other:
        writing = asyncio.ensure_future(other.set("k", "new"))
        while resp.store.most_waiting < 1 or not resp.store._staged:
            await asyncio.sleep(0)
        changing = asyncio.ensure_future(client.expire("k", 5, xx=True))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not changing.done()
        resp.store.hold = False
        resp.store.commit()
        assert await writing is True
        assert await changing is False, "the value that came first has no expiry"
    assert (resp.store.entries["k"].value, expiry(resp)) == (b"new", None)


async def test_setex_setnx_and_strlen_do_what_they_say(resp: Plane, client: redis.Redis) -> None:
    assert await client.execute_command("SETEX", "k", 5, "v") in {True, b"OK"}
    assert await client.execute_command("PSETEX", "l", 5, "v") in {True, b"OK"}
    assert [await client.pttl("k"), await client.pttl("l")] == [5000, 5]
    assert [await client.execute_command("SETNX", key, "w") for key in "km"] == [False, True]
    assert [await client.strlen("m"), await client.strlen("none")] == [1, 0]
