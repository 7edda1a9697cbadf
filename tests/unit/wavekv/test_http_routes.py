"""Routes, options and listings over HTTP: what exists, what is lacking and said to be, and how pages join up."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.config import Limits
from wavekv.http_api import HttpApi
from wavekv.runtime.listening import open_unix

LIMITS = Limits(list_entries_max=5, list_entries_default=3, list_bytes_max=100)


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param, LIMITS) as serving:
        yield serving


@pytest.fixture
async def client(http: Plane) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(http.url) as session:
        yield session


async def code(client: aiohttp.ClientSession, method: str, path: str, **headers: str) -> tuple[int, str]:
    async with client.request(method, path, headers=headers) as answer:
        return answer.status, (await answer.json())["code"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/kvs",
        "/v2/kv/k",
        "/v1/kv%2Fk",
        "/metrics",
        "/v1/explain",
        "/v1/batch/",
        "/v1/ephemeral",
        "/v1/ephemeral/",
        "/v1/ephemeral/status",
        "/v1/ephemeral/ephemeral/kv",
        "/ephemeral/kv",
        "/openapi.json/",
    ],
)
async def test_an_unknown_route_is_told_as_such(http: Plane, path: str) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.status == 404
    assert b"unknown_route" in answer.body
    assert http.operations.seen == [("http", "other", "unknown_route")]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/kv/k", "GET, HEAD, PUT, DELETE"),
        ("PUT", "/v1/kv", "GET"),
        ("DELETE", "/v1/status", "GET"),
        ("GET", "/v1/batch", "POST"),
        ("GET", "/v1/ephemeral/multi-get", "POST"),
        ("POST", "/v1/watch", "GET"),
        ("OPTIONS", "/v1/kv/k", "GET, HEAD, PUT, DELETE"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    client: aiohttp.ClientSession, method: str, path: str, allowed: str
) -> None:
    async with client.request(method, path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert (await answer.json())["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "target",
    [
        "GET /v1/kv/k?durability=1",
        "GET /v1/kv?durability=1",
        "POST /v1/multi-get?durability=1",
        "GET /v1/watch?durability=1",
        "GET /v1/status?durability=1",
        "GET /v1/status?timeout=1",
    ],
)
async def test_a_parameter_that_only_other_routes_have_is_not_implemented(
    http: Plane, client: aiohttp.ClientSession, target: str
) -> None:
    method, path = target.split()
    assert await code(client, method, path) == (501, "not_implemented")
    assert not http.store.entries


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("path", ["/v1/kv", "/v1/status", "/v1/explain/k", "/v1/watch"])
async def test_a_condition_on_anything_but_a_key_is_not_implemented(
    client: aiohttp.ClientSession, path: str, name: str
) -> None:
    assert await code(client, "GET", path, **{name: "*"}) == (501, "not_implemented")


@pytest.mark.parametrize("path", ["/v1/status", "/openapi.json"])
async def test_a_session_where_no_data_is_read_is_not_implemented(client: aiohttp.ClientSession, path: str) -> None:
    assert await code(client, "GET", path, **{"Wavekv-Session": "7.1"}) == (501, "not_implemented")


@pytest.mark.parametrize("query", ["x=1", "x", "prefix=a", "since=1", "%zz=1", "%FF=1"])
async def test_an_unknown_parameter_is_refused(http: Plane, query: str) -> None:
    async with RawHttp(http.port) as raw:
        for method in ("GET", "PUT", "DELETE"):
            answer = await raw.ask(
                f"{method} /v1/kv/k?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
            )
            assert answer.status == 400
            assert b"invalid_parameter" in answer.body
    assert not http.store.entries


async def test_the_status_is_the_member_s(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/status") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.json() == {"name": "fake", "entries": 0}


# ---- listings ------------------------------------------------------------------------------------------------------


async def fill(http: Plane, *keys: str, value: bytes = b"\x00v") -> None:
    for key in keys:
        await http.store.put(key, value)


async def listed(client: aiohttp.ClientSession, **query: str | int) -> Any:
    async with client.get("/v1/kv", params=query) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        return await answer.json()


async def test_a_listing_is_in_key_order_with_values_and_tags(http: Plane, client: aiohttp.ClientSession) -> None:
    await fill(http, "b", "a", "ü")
    page = await listed(client)
    assert [entry["key"] for entry in page["entries"]] == ["a", "b", "ü"]
    assert page["entries"][0] == {"key": "a", "etag": "2.7.2", "value": "\x00v"}
    assert page["next"] is None


async def test_a_value_has_one_name_on_every_route(http: Plane, client: aiohttp.ClientSession) -> None:
    await http.store.put("b", b"\xff")
    await http.store.put("t", "ü\x00\u2028".encode())
    wanted = [
        {"key": "b", "etag": "1.7.1", "value_base64": "/w=="},
        {"key": "t", "etag": "2.7.2", "value": "ü\x00\u2028"},
    ]
    assert (await listed(client))["entries"] == wanted
    async with client.post("/v1/multi-get", json={"keys": ["b", "t"]}) as answer:
        assert (await answer.json())["entries"] == wanted
    async with client.get("/v1/watch") as answer:
        lines = [line async for line in _data_lines(answer, 2)]
    assert lines == wanted


async def _data_lines(answer: aiohttp.ClientResponse, count: int) -> AsyncIterator[Any]:
    while count:
        line = await answer.content.readline()
        if line.startswith(b"data: "):
            count -= 1
            yield json.loads(line.removeprefix(b"data: "))


async def test_pages_join_up_to_the_whole(http: Plane, client: aiohttp.ClientSession) -> None:
    keys = [f"p/{number}" for number in range(7)]
    await fill(http, *keys, "o", "q")
    seen: list[str] = []
    query: dict[str, str | int] = {"prefix": "p/", "limit": 3}
    while True:
        page = await listed(client, **query)
        seen += [entry["key"] for entry in page["entries"]]
        if page["next"] is None:
            break
        assert page["next"] == seen[-1]
        query["after"] = page["next"]
    assert seen == keys


async def test_keys_alone_come_without_values_and_without_their_bytes_counted(
    http: Plane, client: aiohttp.ClientSession
) -> None:
    await fill(http, "a", "b", value=b"v" * 100)
    page = await listed(client, keys_only="true")
    assert page["entries"] == [{"key": "a", "etag": "1.7.1"}, {"key": "b", "etag": "2.7.2"}]


async def test_a_page_ends_at_its_bytes_and_one_entry_always_goes(http: Plane, client: aiohttp.ClientSession) -> None:
    await fill(http, "a", value=b"v" * 101)
    await fill(http, "b", value=b"v" * 40)
    await fill(http, "c", value=b"v" * 60)
    await fill(http, "d", value=b"v")
    first = await listed(client)
    assert ([entry["key"] for entry in first["entries"]], first["next"]) == (["a"], "a")
    second = await listed(client, after="a")
    assert ([entry["key"] for entry in second["entries"]], second["next"]) == (["b", "c"], "c")


async def test_msgpack_by_accept_carries_values_as_they_are(http: Plane, client: aiohttp.ClientSession) -> None:
    await fill(http, "a")
    headers = {"Accept": "text/html, application/msgpack;q=0.9"}
    async with client.get("/v1/kv", headers=headers) as answer:
        assert answer.content_type == "application/msgpack"
        page = msgpack.unpackb(await answer.read())
    assert page == {"entries": [{"key": "a", "etag": "1.7.1", "value": b"\x00v"}], "next": None}


async def test_a_query_decodes_plus_as_a_space_and_escapes_as_bytes(http: Plane) -> None:
    await fill(http, "a b", "a+b", "ü")
    async with RawHttp(http.port) as raw:
        for query, key in (("a+", b'"a b"'), ("a%2B", b'"a+b"'), ("%C3%BC", '"ü"'.encode())):
            answer = await raw.ask(f"GET /v1/kv?prefix={query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert answer.body.count(b'"key"') == 1
            assert key in answer.body


@pytest.mark.parametrize("limit", [1, 5])
async def test_the_ends_of_the_limit_are_taken(http: Plane, client: aiohttp.ClientSession, limit: int) -> None:
    await fill(http, *"abcdef")
    assert len((await listed(client, limit=limit))["entries"]) == limit


async def test_a_listing_without_a_limit_has_the_default_one(http: Plane, client: aiohttp.ClientSession) -> None:
    await fill(http, *"abcdef")
    assert len((await listed(client))["entries"]) == 3


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=6", "limit=-1", "limit=", "limit=1.5", "limit=%C2%B2", "limit=" + "9" * 5000, "keys_only=yes",
     "x=1", "limit=1&limit=2", "prefix=%FF", "prefix=%zz"],
)  # fmt: skip
async def test_a_bad_parameter_of_a_listing_is_refused(http: Plane, query: str) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(f"GET /v1/kv?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.status == 400
    assert b"invalid_parameter" in answer.body


# ---- sockets -------------------------------------------------------------------------------------------------------


async def test_the_same_api_is_on_a_unix_socket_whose_file_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    api = HttpApi(FakeKeyValues(), FakeKeyValues(), LIMITS, Operations(), FakeClock())
    await api.start([open_unix(path, 0o660)])
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession("http://h", connector=connector) as client, client.put("/v1/kv/k") as answer:
        assert answer.status == 201
    await api.stop()
    assert not path.exists()
    await api.stop()


async def test_a_stop_lets_the_request_in_progress_end(http: Plane) -> None:
    http.store.hold = True
    async with RawHttp(http.port) as raw:
        raw.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv")
        while not http.store.most_waiting:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(http.server.stop())
        await asyncio.sleep(0)
        http.store.commit()
        assert (await raw.answer()).status == 201
        await stopping
        assert await raw.closed()


async def test_a_connection_above_the_bound_is_told_so_and_the_others_go_on() -> None:
    async with plane(fast_http, Limits(http_connections_max=2)) as http, RawHttp(http.port) as first:
        assert (await first.ask(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")).status == 404
        async with RawHttp(http.port) as second, RawHttp(http.port) as third:
            assert (await second.ask(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")).status == 404
            answer = await third.answer()
            assert (answer.status, b"too_many_connections" in answer.body) == (503, True)
            assert await third.closed()
        assert (await first.ask(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")).status == 404
