"""Who may ask over HTTP: programs of this machine and its own pages, and no page of another host."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.config import Limits
from wavekv.errors import UnsupportedMediaType
from wavekv.http_api import HttpApi
from wavekv.runtime.listening import open_unix
from wavekv.web_guard import refuse_form


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


@pytest.mark.parametrize("site", ["cross-site", "", "Same-Origin", "x"])
async def test_what_a_browser_calls_cross_site_is_refused_without_an_origin(http: Plane, site: str) -> None:
    async with RawHttp(http.port) as raw:
        await raw.ask(put("Host: localhost"))
        for lines in (("GET /v1/kv/k HTTP/1.1",), ("POST /v1/batch HTTP/1.1", "Content-Type: application/json")):
            head = [*lines, "Host: localhost", f"Sec-Fetch-Site: {site}", "Content-Length: 0", "", ""]
            answer = await raw.ask("\r\n".join(head).encode())
            assert (answer.status, b'"foreign_origin"' in answer.body) == (403, True)


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
async def test_a_page_of_this_machine_may_say_its_site(http: Plane, site: str) -> None:
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(put("Host: localhost", f"Sec-Fetch-Site: {site}"))).status == 201


async def test_two_names_of_this_machine_are_two_sites_to_a_browser_and_served(http: Plane) -> None:
    headers = ("Host: localhost", "Origin: http://127.0.0.1:3000", "Sec-Fetch-Site: cross-site")
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(put(*headers))).status == 201


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/v1/kv/k",
        "http://evil.example:7070?/v1/kv/k",
        "https://localhost@evil.example/v1/kv/k",
        "http://a@localhost/v1/kv/k",
    ],
)
async def test_a_target_that_names_another_host_beats_host_and_is_refused(http: Plane, target: str) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (answer.status, b'"foreign_origin"' in answer.body) == (403, True)


async def test_a_target_that_names_this_machine_is_served(http: Plane) -> None:
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(b"GET http://localhost:7070/v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.status == 404


async def test_of_several_hosts_none_may_be_foreign(http: Plane) -> None:
    for hosts in (("localhost", "evil.example"), ("evil.example", "localhost")):
        async with RawHttp(http.port) as raw:
            assert (await raw.ask(put(*[f"Host: {host}" for host in hosts]))).status in {400, 403}
    assert not http.store.entries


@pytest.mark.parametrize("form", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("path", ["/v1/batch", "/v1/kv/k", "/v1/kv", "/v1/ephemeral/batch", "/v1/watch"])
async def test_no_form_of_a_page_changes_anything_even_without_an_origin(http: Plane, form: str, path: str) -> None:
    body = b'{"operations": [{"op": "put", "key": "k", "value": "v"}]}'
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {form}", f"Content-Length: {len(body)}"]
    async with RawHttp(http.port) as raw:
        answer = await raw.ask("\r\n".join([*lines, "", ""]).encode() + body)
    assert answer.status in {405, 415}
    assert not http.store.entries
    assert not http.ephemeral.entries


async def test_a_page_of_this_machine_is_let_ask_and_read(http: Plane) -> None:
    origin = "http://localhost:3000"
    lines = ["OPTIONS /v1/kv/k HTTP/1.1", "Host: localhost", f"Origin: {origin}", "Access-Control-Request-Method: PUT"]
    ask = "\r\n".join([*lines, "", ""])
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(ask.encode())
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == origin
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "If-Match" in answer.headers["access-control-allow-headers"]
    async with aiohttp.ClientSession(http.url, headers={"Origin": origin}) as page:
        async with page.put("/v1/kv/k", data=b"v") as put_answer:
            assert put_answer.headers["Access-Control-Allow-Origin"] == origin
            assert "ETag" in put_answer.headers["Access-Control-Expose-Headers"]
        async with page.get("/v1/kv/none") as refused:
            assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (404, origin)
        async with page.get("/v1/kv") as listed:
            assert listed.headers.getall("Vary") == ["Accept", "Origin"]
        async with page.get("/v1/watch") as events:
            assert events.headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("kind", [True, False])
async def test_a_name_that_the_user_allows_is_served_and_no_other(kind: bool) -> None:
    def allowing(store: Any, ephemeral: Any, limits: Any, observer: Any, clock: Any) -> HttpApi:
        return HttpApi(store, ephemeral, limits, observer, clock, fast=kind, allow_hosts=("kv.example",))

    async with plane(allowing) as http:
        for host, status in (
            ("KV.example:7070", 201),
            ("kv.example", 200),
            ("x.kv.example", 403),
            ("evil.example", 403),
        ):
            async with RawHttp(http.port) as raw:
                assert (await raw.ask(put(f"Host: {host}"))).status == status
        async with RawHttp(http.port) as raw:
            assert (await raw.ask(put("Host: kv.example", "Origin: http://kv.example:7070"))).status == 200
        async with RawHttp(http.port) as raw:
            assert (await raw.ask(put("Host: kv.example", "Origin: http://evil.example"))).status == 403


async def test_a_preflight_of_another_host_gets_no_permission(http: Plane) -> None:
    for headers in ("", "Origin: http://evil.example\r\n", "Origin: null\r\n"):
        ask = f"OPTIONS /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n{headers}Access-Control-Request-Method: PUT\r\n\r\n"
        async with RawHttp(http.port) as raw:
            answer = await raw.ask(ask.encode())
        assert answer.status in {403, 405}
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_body_of_a_form_is_refused_where_one_type_is_taken() -> None:
    refuse_form({"Content-Type": "Application/X; charset=utf-8"}, "application/x")
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": ""}):
        with pytest.raises(UnsupportedMediaType, match="has to be application/x"):
            refuse_form(headers, "application/x")


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
