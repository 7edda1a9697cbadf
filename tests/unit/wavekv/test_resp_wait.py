"""WAIT: how many other members hold what a Redis connection wrote."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import redis.asyncio as redis
from redis.exceptions import ResponseError

from tests.fakes.key_values import FakeSpread
from tests.fakes.planes import Plane, plane, resp_plane
from wavekv.config import Limits
from wavekv.core.session import DotRange, token_of

LIMITS = replace(Limits(), wait_ms_max=70_000)
WAIT = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        yield serving


@pytest.fixture
async def client(resp: Plane) -> AsyncIterator[redis.Redis]:
    async with redis.Redis(port=resp.port, single_connection_client=True) as connected:
        yield connected


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens of what was waited for."""
    seen: list[str] = []
    reached = FakeSpread.reached

    async def noted(spread: FakeSpread, dots: list[DotRange], seconds: float) -> tuple[str, ...]:
        seen.append(token_of(dots))
        return await reached(spread, dots, seconds)

    monkeypatch.setattr(FakeSpread, "reached", noted)
    return seen


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_it_counts_the_others_once_they_hold_all_that_the_connection_wrote(
    resp: Plane, client: redis.Redis, asked: list[str]
) -> None:
    await resp.store.put("other", b"")
    await client.set("a", b"1")
    await client.mset({"b": b"2", "c": b"3"})
    await client.expire("a", 100)
    await client.setnx("d", b"4")
    await client.delete("b", "c")
    waiting = asyncio.ensure_future(client.execute_command("WAIT", 2, 5000))
    await until(lambda: resp.store.waiting == 1)
    await resp.store.arrive(held_by=("m1",))
    assert not waiting.done()
    await resp.store.arrive(held_by=("m2",))
    assert await waiting == 2
    assert asked == ["7.2-8"]
    assert resp.store.waits == [5.0]
    assert ("resp", "wait", "ok") in resp.operations.seen


async def test_it_answers_how_many_there_are_when_its_time_is_over(resp: Plane, client: redis.Redis) -> None:
    await resp.store.arrive(held_by=("m1",))
    await client.set("a", b"1")
    assert await client.execute_command("WAIT", 2, 1) == 1
    assert await client.execute_command("WAIT", 9, 1) == 1
    assert await client.execute_command("WAIT", 0, 1) == 1
    assert await client.execute_command("WAIT", -1, 1) == 1


async def test_for_ever_and_more_than_the_bound_are_the_bound(resp: Plane, client: redis.Redis) -> None:
    for timeout in (0, 70_001, 10**15):
        await client.execute_command("WAIT", 0, timeout)
        assert resp.store.waits.pop() == 70.0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("1", "-1"), "timeout is negative"),
        (("x", "1"), "not an integer"),
        (("1", "x"), "not an integer"),
        (("1",), "wrong number of arguments"),
    ],
)
async def test_what_is_no_number_is_refused(client: redis.Redis, words: tuple[str, ...], error: str) -> None:
    with pytest.raises(ResponseError, match=error):
        await client.execute_command("WAIT", *words)


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_a_client_that_leaves_waits_no_more(resp: Plane, leave: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", resp.port)
    writer.write(WAIT)
    await until(lambda: resp.store.waiting == 1)
    if leave == "abort":
        writer.transport.abort()
    writer.close()
    await until(lambda: resp.store.waiting == 0 and resp.store.spreading == 0)
    assert resp.store.spreading == 0


async def test_a_client_that_only_sends_no_more_gets_its_answer_without_a_wait(resp: Plane) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", resp.port)
    resp.store.hold = True
    writer.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n" + WAIT)
    writer.write_eof()
    await until(lambda: resp.store.most_waiting == 1)
    resp.store.commit()
    async with asyncio.timeout(10):
        assert await reader.read() == b"+OK\r\n:0\r\n"
    writer.close()


async def test_a_stop_answers_what_is_known(resp: Plane, client: redis.Redis) -> None:
    await client.set("a", b"1")
    waiting = asyncio.ensure_future(client.execute_command("WAIT", 1, 0))
    await until(lambda: resp.store.waiting == 1)
    async with asyncio.timeout(4):  # below what a stop grants commands in progress
        await resp.server.stop()
    assert await waiting == 0
