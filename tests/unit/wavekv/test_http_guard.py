"""Who may ask over HTTP: programs of this machine and its own pages, and no page of another host."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.config import Limits
from wavekv.http_api import HttpApi
from wavekv.runtime.listening import open_unix


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param) as serving:
        yield serving


def put(*headers: str) -> bytes:
    return "\r\n".join(["PUT /v1/kv/k HTTP/1.1", "Content-Length: 1", *headers, "", "v"]).encode()


LOCAL = ["localhost", "LOCALHOST:7070", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:7070", "localhost.", ""]
FOREIGN = ["h", "evil.example:7070", "10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.io", "[::2]:7070", "0.0.0.0",
           "localhost@evil", "::1", "127.1"]  # fmt: skip


@pytest.mark.parametrize("host", LOCAL)
async def test_a_host_of_this_machine_is_served(http: Plane, host: str) -> None:
    async with RawHttp(http.port) as raw:
        for status in (201, 200):  # the second one of a connection takes the shorter way
            assert (await raw.ask(put(f"Host: {host}"))).status == status


@pytest.mark.parametrize("host", FOREIGN)
async def test_a_host_of_another_name_is_refused_and_nothing_is_stored(http: Plane, host: str) -> None:
    async with RawHttp(http.port) as raw:
        for _ in range(2):
            answer = await raw.ask(put(f"Host: {host}"))
            assert answer.status == 403 or (answer.status == 400 and b"malformed_http" in answer.body)
            assert b"foreign_origin" in answer.body or answer.status == 400
            if answer.status == 400:
                break
    assert not http.store.entries


async def test_a_request_without_a_host_is_served_where_http_allows_it(http: Plane) -> None:
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(put().replace(b"HTTP/1.1", b"HTTP/1.0"))).status == 201
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(put("Host: localhost"))).status == 200
        assert (await raw.ask(put())).status == 400


@pytest.mark.parametrize("origin", ["http://localhost", "http://127.0.0.1:3000", "https://[::1]:8443"])
async def test_a_page_of_this_machine_is_served(http: Plane, origin: str) -> None:
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(put("Host: localhost", f"Origin: {origin}"))).status == 201


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://evil.example", "http://localhost.evil.example", "file://", "ftp://localhost", "localhost"],
)
async def test_a_page_of_another_host_is_refused_whatever_it_asks(http: Plane, origin: str) -> None:
    async with RawHttp(http.port) as raw:
        await raw.ask(put("Host: localhost"))
        for method, path in [("PUT", "/v1/kv/k"), ("GET", "/v1/kv/k"), ("POST", "/v1/batch"), ("GET", "/v1/watch")]:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Origin: {origin}", "Content-Length: 0", "", ""]
            answer = await raw.ask("\r\n".join(lines).encode())
            assert (answer.status, b'"foreign_origin"' in answer.body) == (403, True)
    assert http.store.entries["k"].value == b"v"
    assert http.operations.seen[-1] == ("http", "other", "foreign_origin")


@pytest.mark.parametrize("fast", [True, False])
async def test_a_unix_socket_needs_no_guard(tmp_path: Path, fast: bool) -> None:
    api = HttpApi(FakeKeyValues(), None, Limits(), Operations(), FakeClock(), fast=fast)
    path = tmp_path / "s"
    await api.start([open_unix(path, 0o660)])
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession("http://any.name", connector=connector) as client:
        for status in (201, 200):
            async with client.put("/v1/kv/k", headers={"Origin": "http://any.name"}) as answer:
                assert answer.status == status
    await api.stop()
