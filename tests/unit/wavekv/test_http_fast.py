"""The shorter way through the HTTP plane: when a request may take it, and that it never overtakes or loses one.

What it answers is tested with the rest of the plane, whose tests run over both ways.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.planes import Plane, fast_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.http_api.fast import FastConnection, FastPath, Framing

GET = b"GET /v1/kv/%s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def http() -> AsyncIterator[Plane]:
    async with plane(fast_http) as serving:
        yield serving


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the shorter way said to each read, in order: taken or handed on."""
    seen: list[bool] = []
    take = FastConnection._take

    def noted(connection: FastConnection, data: bytes) -> bool:
        seen.append(take(connection, data))
        return seen[-1]

    monkeypatch.setattr(FastConnection, "_take", noted)
    return seen


def put(key: str, value: bytes, *headers: str) -> bytes:
    lines = [f"PUT /v1/kv/{key} HTTP/1.1", "Host: localhost", f"Content-Length: {len(value)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + value


async def warmed(raw: RawHttp) -> RawHttp:
    """Answer one request on the connection, so that aiohttp waits for the next."""
    assert (await raw.ask(GET % b"none")).status == 404
    return raw


async def test_plain_requests_take_the_shorter_way(http: Plane, taken: list[bool]) -> None:
    async with RawHttp(http.port) as raw:
        await warmed(raw)
        assert (await raw.ask(put("k", b"v"))).status == 201
        assert (await raw.ask(GET % b"k")).body == b"v"
    assert taken[-2:] == [True, True]


@pytest.mark.parametrize(
    "request_bytes",
    [
        put("k", b"v", "If-Match: x"),
        put("k", b"v", "X-Own: 1"),
        put("k?ttl=1", b"v"),
        b"DELETE /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
        b"GET /v1/kv/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_a_request_with_anything_unusual_is_handed_on_and_the_connection_stays_fast(
    http: Plane, taken: list[bool], request_bytes: bytes
) -> None:
    async with RawHttp(http.port) as raw:
        await warmed(raw)
        await raw.ask(request_bytes)
        assert taken[-1] is False
        await raw.ask(GET % b"k")
        assert taken[-1] is True


@pytest.mark.parametrize(
    "request_bytes",
    [
        put("a", b"1") + put("b", b"2"),
        put("a", b"1") + GET % b"a",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nv\r\n0\r\n\r\n",
        put("a", b"1", "Content-Length: 1"),
    ],
)
async def test_what_is_not_exactly_one_request_leaves_the_connection_to_aiohttp(
    http: Plane, taken: list[bool], request_bytes: bytes
) -> None:
    async with RawHttp(http.port) as raw:
        await warmed(raw)
        raw.send(request_bytes)
        await raw.answer()
        calls = len(taken)
        raw.send(GET % b"a")
        await asyncio.wait_for(raw.reader.read(1), 5)
        assert len(taken) == calls, "aiohttp alone knows where a request begins now"


async def test_a_request_cut_anywhere_is_answered_as_if_it_came_whole(http: Plane) -> None:
    whole = put("key", b"value")
    for cut in range(1, len(whole)):
        async with RawHttp(http.port) as raw:
            await warmed(raw)
            raw.send(whole[:cut])
            await raw.writer.drain()
            await asyncio.sleep(0)
            raw.send(whole[cut:])
            assert (await raw.answer()).status in {200, 201}, cut
            assert (await raw.ask(GET % b"key")).body == b"value", cut


async def test_a_get_behind_a_waiting_put_is_answered_after_it(http: Plane) -> None:
    http.store.hold = True
    async with RawHttp(http.port) as raw, aiohttp.ClientSession(http.url) as other:
        await warmed(raw)
        raw.send(put("k", b"new"))
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 404
        raw.send(GET % b"k")
        raw.send(put("l", b"also"))
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 404
        http.store.hold = False
        http.store.commit()
        assert (await raw.answer()).status == 201
        assert (await raw.answer()).body == b"new"
        assert (await raw.answer()).status == 201


async def test_a_get_behind_a_slow_request_does_not_overtake_it(http: Plane) -> None:
    await http.store.put("k", b"v")
    http.store.hold = True
    async with RawHttp(http.port) as raw, aiohttp.ClientSession(http.url) as other:
        await warmed(raw)
        raw.send(b"DELETE /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 200
        raw.send(GET % b"k")
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 200
        http.store.commit()
        assert (await raw.answer()).status == 200
        assert (await raw.answer()).status == 404, "the delete came first"


async def test_a_large_pipeline_behind_a_put_is_held_within_its_bound_and_answered(http: Plane) -> None:
    http.store.hold = True
    count = 4000
    async with RawHttp(http.port) as raw, aiohttp.ClientSession(http.url) as other:
        await warmed(raw)
        raw.send(put("k", b"v"))
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 404
        raw.send((GET % b"k") * count)
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 404
        http.store.hold = False
        http.store.commit()
        assert (await raw.answer()).status == 201
        for _ in range(count):
            assert (await asyncio.wait_for(raw.answer(), 10)).body == b"v"


async def test_a_client_that_leaves_does_not_take_its_write_back(http: Plane) -> None:
    http.store.hold = True
    async with RawHttp(http.port) as raw, aiohttp.ClientSession(http.url) as other:
        await warmed(raw)
        raw.send(put("k", b"v"))
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 404
        raw.writer.close()
        await raw.writer.wait_closed()
        http.store.commit()
        async with other.get("/v1/kv/k") as answer:
            assert await answer.read() == b"v"


async def test_a_stop_waits_for_the_write_under_way(http: Plane) -> None:
    http.store.hold = True
    async with RawHttp(http.port) as raw, aiohttp.ClientSession(http.url) as other:
        await warmed(raw)
        raw.send(put("k", b"v"))
        async with other.get("/v1/kv/k") as answer:
            assert answer.status == 404
        stopping = asyncio.get_running_loop().create_task(http.server.stop())
        await asyncio.sleep(0)
        http.store.commit()
        assert (await raw.answer()).status == 201
        await stopping
        assert await raw.closed()


def framing(*lines: str) -> Framing | None:
    path = FastPath.__new__(FastPath)
    path._memo = {}
    return path.framing("".join(f"{line}\r\n" for line in lines).encode())


def test_headers_tell_the_length_and_whether_they_are_plain() -> None:
    assert framing() == Framing(0, plain=False, local=True)
    assert framing("Host: h") == Framing(0, plain=True, local=False)
    assert framing("Host: localhost", "content-length: 12", "Connection: keep-alive") == Framing(
        12, plain=True, local=True
    )
    assert framing("Host: localhost", "If-None-Match: *", "Content-Length:7") == Framing(7, plain=False, local=True)


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: chunked",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "Connection: close",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Content-Length : 1",
        "Content-Length: 1234567890",
        " folded",
        "no colon",
        "Ünïcode: 1",
        "Host: localhost",
    ],
)
def test_headers_that_only_a_parser_understands_are_left_to_it(line: str) -> None:
    assert framing("Host: localhost", line) is None


def test_the_memory_of_headers_is_bounded() -> None:
    path = FastPath.__new__(FastPath)
    path._memo = {}
    for number in range(5000):
        path.framing(f"Host: localhost{number}\r\n".encode())
    path.framing(b"Host: " + b"h" * 5000 + b"\r\n")
    assert len(path._memo) <= 1024
    assert all(len(block) <= 1024 for block in path._memo)


PRIVATE_NAMES = [
    "_waiter",
    "_messages",
    "_close",
    "_force_close",
    "_upgraded",
    "_payload_parser",
    "_manager",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_next_keepalive_close_time",
    "_process_keepalive",
]


def test_the_private_names_of_aiohttp_are_where_they_were() -> None:
    source = inspect.getsource(web.RequestHandler)
    assert [name for name in PRIVATE_NAMES if f"self.{name}" not in source] == []
