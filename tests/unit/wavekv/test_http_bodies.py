"""Bodies over HTTP: the exact bound, expectations, and bodies that never end, end early or lie."""

import io
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp

MAX = 1 << 20


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param) as serving:
        yield serving


async def put(http: Plane, data: object) -> tuple[int, str]:
    async with aiohttp.ClientSession(http.url) as client, client.put("/v1/kv/k", data=data) as answer:
        return answer.status, await answer.text()


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"v" * size


async def test_a_value_of_exactly_the_bound_is_stored(http: Plane) -> None:
    assert (await put(http, b"v" * MAX))[0] == 201
    assert (await put(http, pieces(MAX - 1, 1)))[0] == 200
    entry = http.store.get("k")
    assert entry is not None
    assert entry.value == b"v" * MAX


@pytest.mark.parametrize("chunked", [False, True])
async def test_one_byte_more_is_refused(http: Plane, chunked: bool) -> None:
    status, problem = await put(http, pieces(MAX, 1) if chunked else io.BytesIO(b"v" * (MAX + 1)))
    assert status == 413
    assert "value_too_large" in problem
    assert not http.store.entries


async def test_a_declared_length_over_the_bound_is_refused_before_the_body_is_read(http: Plane) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert answer.status == 413


async def test_a_client_that_asks_first_is_told_to_go_on(http: Plane) -> None:
    async with RawHttp(http.port) as raw:
        raw.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        assert (await raw.answer()).status == 100
        assert (await raw.ask(b"v")).status == 201
        assert (await raw.ask(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")).body == b"v"


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/v1/kv/k", MAX + 1, 413),
        ("/v1/kv/%zz", 5, 400),
        ("/v1/kv/k?since=5", 5, 400),
        ("/v1/kv/k?durability=0", 5, 400),
        ("/v1/kv/k?ttl=0", 5, 400),
    ],
)
async def test_a_client_that_asks_first_is_refused_without_sending_and_the_connection_ends(
    http: Plane, path: str, length: int, status: int
) -> None:
    async with RawHttp(http.port) as raw:
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        answer = await raw.ask(head.encode())
        assert (answer.status, answer.headers["connection"]) == (status, "close")


async def test_an_unknown_expectation_is_refused(http: Plane) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(
            b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nExpect: luck\r\nContent-Length: 1\r\n\r\nv"
        )
        assert answer.status == 501
        assert b"luck" in answer.body


async def test_a_body_cut_short_stores_nothing(http: Plane) -> None:
    async with RawHttp(http.port) as raw:
        raw.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
        raw.writer.write_eof()
        await raw.reader.read()
    assert not http.store.entries
    assert http.operations.seen == [("http", "put", "incomplete_body")]


async def test_broken_chunks_store_nothing_and_are_told(http: Plane) -> None:
    async with RawHttp(http.port) as raw:
        raw.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = await raw.ask(b"4\r\nhalf\r\nnonsense\r\n")
    assert answer.status == 400
    assert b"incomplete_body" in answer.body or b"malformed_http" in answer.body
    assert not http.store.entries


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Range: bytes 0-1/2"])
async def test_a_body_that_would_have_to_be_transformed_is_refused(http: Plane, header: str) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(
            f"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n{header}\r\nContent-Length: 1\r\n\r\nv".encode()
        )
    assert answer.status == 501
    assert not http.store.entries


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /v1/kv/k HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/kv/" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
    ids=["tls", "words", "header", "length", "two lengths", "long target", "long header"],
)
async def test_what_is_not_http_gets_a_problem_and_the_server_goes_on(
    http: Plane, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(garbage)
        assert 400 <= answer.status < 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert b"malformed_http" in answer.body
        assert await raw.closed()
    assert "Traceback" not in caplog.text
    assert (await put(http, b"v"))[0] == 201
