"""Get, put, delete and head over HTTP: what each answers, and which bytes of the target are the key."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.errors import Corruption, DiskFull, Draining, LimitReached, Starting, TooManyWaiting, WaveKVError


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param) as serving:
        yield serving


@pytest.fixture
async def client(http: Plane) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(http.url, auto_decompress=False) as session:
        yield session


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_a_put_creates_then_overwrites_and_a_get_returns_the_bytes(
    http: Plane, client: aiohttp.ClientSession
) -> None:
    value = bytes(range(256))
    async with client.put("/v1/kv/k", data=b"first") as answer:
        assert (answer.status, await answer.read(), answer.headers["ETag"]) == (201, b"", '"1.7.1"')
    async with client.put("/v1/kv/k", data=value) as answer:
        assert (answer.status, await answer.read(), answer.headers["ETag"]) == (200, b"", '"2.7.2"')
    async with client.get("/v1/kv/k") as answer:
        assert (answer.status, await answer.read(), answer.headers["ETag"]) == (200, value, '"2.7.2"')
        assert answer.headers["Content-Type"] == "application/octet-stream"
    assert http.operations.seen == [("http", "put", "ok"), ("http", "put", "ok"), ("http", "get", "ok")]


async def test_an_empty_value_is_a_value(client: aiohttp.ClientSession) -> None:
    async with client.put("/v1/kv/k", data=b"") as answer:
        assert answer.status == 201
    async with client.get("/v1/kv/k") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_head_answers_as_get_does_without_the_body(http: Plane) -> None:
    await http.store.put("k", b"12345")
    async with RawHttp(http.port) as raw:
        raw.send(request("HEAD", "/v1/kv/k"))
        found = await raw.answer(to_head=True)
        assert (found.status, found.headers["content-length"], found.headers["etag"]) == (200, "5", '"1.7.1"')
        raw.send(request("HEAD", "/v1/kv/none"))
        assert (await raw.answer(to_head=True)).status == 404
        assert (await raw.ask(request("GET", "/v1/kv/k"))).body == b"12345"
    assert [kind for _, kind, _ in http.operations.seen] == ["head", "head", "get"]


async def test_a_delete_answers_the_tombstone_s_tag_and_an_absent_key_is_not_found(
    http: Plane, client: aiohttp.ClientSession
) -> None:
    await http.store.put("k", b"v")
    async with client.delete("/v1/kv/k") as answer:
        assert (answer.status, await answer.read(), answer.headers["ETag"]) == (200, b"", '"2.7.2"')
    async with client.delete("/v1/kv/k") as answer:
        assert (answer.status, answer.content_type) == (404, "application/problem+json")
        problem = await answer.json()
    assert problem == {
        "type": "about:blank",
        "title": "not found",
        "status": 404,
        "code": "not_found",
        "detail": problem["detail"],
    }
    assert http.operations.seen == [("http", "delete", "ok"), ("http", "delete", "not_found")]


@pytest.mark.parametrize(
    ("escaped", "key"),
    [
        ("a", "a"),
        ("a/b//c/", "a/b//c/"),
        ("a%2Fb", "a/b"),
        ("..%2F.", "../."),
        ("a/../b", "a/../b"),
        ("a+b", "a+b"),
        ("a%20b", "a b"),
        ("%252F", "%2F"),
        ("%00", "\0"),
        ("%C3%BC%F0%9F%94%91", "ü🔑"),
        ("%3Fx%23y", "?x#y"),
        ("%c3%bc", "ü"),
        ("%61" * 1024, "a" * 1024),
        ("%C3%BC" * 512, "ü" * 512),
    ],
)
async def test_the_key_is_the_raw_path_decoded_once(http: Plane, escaped: str, key: str) -> None:
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(request("PUT", f"/v1/kv/{escaped}", b"v"))).status == 201
        assert list(http.store.entries) == [key]
        assert (await raw.ask(request("GET", f"/v1/kv/{escaped}"))).body == b"v"


async def test_an_absolute_target_names_the_same_key(http: Plane) -> None:
    await http.store.put("k", b"v")
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(request("GET", f"{http.url}/v1/kv/k"))).body == b"v"


@pytest.mark.parametrize("escaped", ["", "%", "%4", "%zz", "a%", "%%41", "%FF", "%ED%A0%80", "%61" * 1025])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_what_is_no_key_is_refused(http: Plane, escaped: str, method: str) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(request(method, f"/v1/kv/{escaped}", b"v" if method == "PUT" else b""))
    assert answer.status == 400
    assert b'"invalid_key"' in answer.body
    assert not http.store.entries


@pytest.mark.parametrize(
    "error", [Starting("s"), Draining("d"), TooManyWaiting("t"), DiskFull("f"), LimitReached("l"), Corruption("c")]
)
async def test_every_refusal_of_the_member_is_a_problem_with_its_code_and_status(
    http: Plane, client: aiohttp.ClientSession, error: WaveKVError
) -> None:
    http.store.error = error
    for method in ("GET", "PUT", "DELETE"):
        async with client.request(method, "/v1/kv/k", data=b"v" if method == "PUT" else None) as answer:
            assert answer.status == error.status
            assert (await answer.json()) == error.problem()
    assert {result for _, _, result in http.operations.seen} == {error.code}


async def test_an_unexpected_error_is_a_problem_without_its_text_and_is_logged(
    http: Plane, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    http.store.error = RuntimeError("secret")
    async with client.get("/v1/kv/k") as answer:
        assert (answer.status, answer.content_type) == (500, "application/problem+json")
        body = await answer.text()
    assert '"internal"' in body
    assert "secret" not in body
    assert "RuntimeError: secret" in caplog.text
    assert http.operations.seen == [("http", "get", "internal")]
    http.store.error = None
    async with client.get("/v1/kv/k") as answer:
        assert answer.status == 404


async def test_a_put_is_answered_after_it_is_durable_and_not_before(http: Plane, client: aiohttp.ClientSession) -> None:
    http.store.hold = True
    async with RawHttp(http.port) as raw:
        raw.send(request("PUT", "/v1/kv/k", b"v") + request("GET", "/v1/kv/k"))
        async with client.get("/v1/kv/k") as answer:  # a turn of the loop later, on another connection
            assert answer.status == 404
        assert not raw.reader._buffer  # type: ignore[attr-defined]
        http.store.commit()
        assert (await raw.answer()).status == 201
        assert (await raw.answer()).body == b"v"


async def test_writes_of_one_turn_share_a_commit(http: Plane, client: aiohttp.ClientSession) -> None:
    http.store.hold = True

    async def put(key: str) -> int:
        async with client.put(URL(f"/v1/kv/{key}")) as answer:
            return answer.status

    puts = [asyncio.create_task(put(f"k{number}")) for number in range(8)]
    while http.store.most_waiting < 8:
        await asyncio.sleep(0)
    http.store.commit()
    assert await asyncio.gather(*puts) == [201] * 8
    assert http.store.commits == 1


async def test_bytes_that_had_to_be_escaped_are_refused(http: Plane) -> None:
    for unescaped in ("ü".encode(), b"\xff", b"a b"):
        async with RawHttp(http.port) as raw:
            assert (await raw.ask(b"PUT /v1/kv/" + unescaped + b" HTTP/1.1\r\nContent-Length: 0\r\n\r\n")).status == 400
    assert not http.store.entries
