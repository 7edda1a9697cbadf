"""Watches over HTTP: which events come, in which text, how a stream ends, and what an idle or deaf client costs."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple, Self

import aiohttp
import pytest

from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.config import Limits
from wavekv.http_api import HttpApi
from wavekv.http_api.streams import QUIET_SECONDS, STUCK_SECONDS

LIMITS = replace(Limits(), watchers_max=2, watch_waiting_max=20)


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param, LIMITS) as serving:
        yield serving


class Event(NamedTuple):
    kind: str
    id: str | None
    data: Any


class Reader:
    """One watcher; reads its stream a line at a time."""

    def __init__(self, http: Plane, query: str = "", *headers: str, path: str = "/v1/watch") -> None:
        self._http = http
        lines = [f"GET {path}{query} HTTP/1.0", "Host: localhost", *headers, "", ""]  # 1.0: the stream comes bare
        self._request = "\r\n".join(lines).encode()

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._http.port, limit=1 << 22)
        self.writer.write(self._request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.status = int(head.split()[1])
        self.head = head.lower()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def line(self) -> str:
        return (await asyncio.wait_for(self.reader.readline(), 10)).decode()

    async def event(self) -> Event:
        """The next event; comments and the hint are passed over."""
        fields: dict[str, str] = {}
        while True:
            line = await self.line()
            assert line, "the stream ended"
            if line == "\n" and "data" in fields:
                return Event(fields["event"], fields.get("id"), json.loads(fields["data"]))
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def api(http: Plane) -> HttpApi:
    assert isinstance(http.server, HttpApi)
    return http.server


async def _deafen(http: Plane, stream: Any) -> None:
    """Write until the client of `stream` has taken no more; a long event is told in parts."""
    while not stream._writing:
        await http.store.put("k", b"v" * (1 << 18))
        await until(lambda: stream._writing or not stream._behind)


async def test_a_watch_tells_what_is_held_then_each_change(http: Plane) -> None:
    await http.store.put("p/a", b"1", expires_at=5000)
    await http.store.put("q", b"2")
    async with Reader(http, "?prefix=p/") as watch:
        assert (watch.status, "content-type: text/event-stream" in watch.head) == (200, True)
        assert await watch.line() == "retry: 1000\n"
        told = {"key": "p/a", "value": "1", "etag": "1.7.1", "expires_at": 5000}
        assert await watch.event() == Event("put", None, told)
        assert await watch.event() == Event("synced", "fake.2", {})
        await http.store.put("p/b", "zwei\nLines\r\u2028".encode())
        assert await watch.event() == Event(
            "put", "fake.3", {"key": "p/b", "value": "zwei\nLines\r\u2028", "etag": "3.7.3"}
        )
        await http.store.put("p/b", b"\xff\x00")
        assert (await watch.event()).data == {"key": "p/b", "value_base64": "/wA=", "etag": "4.7.4"}
        await http.store.delete("p/b")
        assert await watch.event() == Event("delete", "fake.5", {"key": "p/b", "etag": "5.7.5"})
        await http.store.put("other", b"")
        http.clock.seconds = 5
        http.store.expire_due()
        assert await watch.event() == Event("expire", "fake.7", {"key": "p/a", "etag": "1.7.1", "expires_at": 5000})
    assert http.operations.seen == [("http", "watch", "ok")]


async def test_no_line_end_of_any_reader_stands_inside_an_event_and_retry_is_in_the_first_block(http: Plane) -> None:
    ends = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r\n"
    await http.store.put(f"p{ends}", f"v{ends}".encode())
    async with Reader(http) as watch:
        first = [await watch.line() for _ in range(4)]
        assert first[:2] == ["retry: 1000\n", "event: put\n"]
        assert first[3] == "\n"
        assert len(first[2].splitlines()) == 1
        told = json.loads(first[2].removeprefix("data: "))
        assert (told["key"], told["value"]) == (f"p{ends}", f"v{ends}")


async def test_a_watch_that_cannot_be_resumed_begins_anew_behind_a_reset_where_that_is_asked_for(http: Plane) -> None:
    await http.store.put("a", b"1")
    async with Reader(http, "?reset=1", "Last-Event-ID: other.1") as watch:
        assert [await watch.line() for _ in range(4)] == ["retry: 1000\n", "event: reset\n", "data: {}\n", "\n"]
        assert [(await watch.event()).kind for _ in range(2)] == ["put", "synced"]
    async with Reader(http, "?reset=true&since=other.1") as watch:
        assert (await watch.event()).kind == "reset"


async def test_every_fresh_start_says_reset_where_asked_for_and_a_resumed_watch_does_not(http: Plane) -> None:
    await http.store.put("a", b"1")
    await http.store.put("b", b"2")
    async with Reader(http, "?reset=1") as watch:
        assert [(await watch.event()).kind for _ in range(3)] == ["reset", "put", "put"]
    async with Reader(http, "?reset=1&since=fake.1") as watch:
        assert await watch.event() == Event("put", "fake.2", {"key": "b", "value": "2", "etag": "2.7.2"})
    async with Reader(http, "?reset=0") as watch:
        assert (await watch.event()).kind == "put"
    async with Reader(http, "?reset=maybe") as watch:
        assert watch.status == 400


async def recipe(events: Any, cache: dict[str, str], wanted: dict[str, str]) -> None:
    """Keep a cache from events of any library, as docs/api.md says, until it is as `wanted`."""
    async for event in events:
        told = json.loads(event.data)
        if event.event == "reset":
            cache.clear()
        elif event.event == "put":
            cache[told["key"]] = told["value"]
        elif event.event in {"delete", "expire"}:
            cache.pop(told["key"], None)
        if cache == wanted:
            return
    raise AssertionError("the stream ended")


async def test_a_cache_kept_with_httpx_sse_is_right_and_forgets_what_a_lost_token_hides(http: Plane) -> None:
    httpx = pytest.importorskip("httpx")
    httpx_sse = pytest.importorskip("httpx_sse")
    await http.store.put("a", "1\u2028\u2029\x85\x0b\x0c2".encode())
    await http.store.put("b", b"2")
    cache = {"gone": "long deleted"}
    async with asyncio.timeout(10), httpx.AsyncClient(trust_env=False) as client:
        for token in (None, "other.1"):
            headers = {} if token is None else {"Last-Event-ID": token}
            url = f"{http.url}/v1/watch?reset=1"
            async with httpx_sse.aconnect_sse(client, "GET", url, headers=headers) as source:
                await recipe(source.aiter_sse(), cache, {"a": "1\u2028\u2029\x85\x0b\x0c2", "b": "2"})
            assert "gone" not in cache
            cache["gone"] = "meanwhile"


async def test_sseclient_py_reads_the_same_events(http: Plane) -> None:
    sseclient = pytest.importorskip("sseclient")
    value = "1\u2028\u2029\x85\x0b\x0c2"
    await http.store.put("a", value.encode())
    async with Reader(http, "?reset=1") as watch:
        lines = [(await watch.line()).encode() for _ in range(11)]

    class Source(list[bytes]):
        def close(self) -> None: ...

    found = list(sseclient.SSEClient(Source(lines)).events())
    assert [event.event for event in found] == ["reset", "put", "synced"]
    assert json.loads(found[1].data)["value"] == value


async def test_one_key_is_watched_and_not_those_it_begins(http: Plane) -> None:
    async with Reader(http, "?key=a%2Bb") as watch:
        assert (await watch.event()).kind == "synced"
        await http.store.put("a+bc", b"1")
        await http.store.put("a+b", b"2")
        assert (await watch.event()).data["key"] == "a+b"


async def test_the_ephemeral_store_has_its_own_watch(http: Plane) -> None:
    async with Reader(http, path="/v1/ephemeral/watch") as watch:
        assert (await watch.event()).kind == "synced"
        await http.store.put("durable", b"1")
        await http.ephemeral.put("ephemeral", b"2")
        assert (await watch.event()).data["key"] == "ephemeral"


@pytest.mark.parametrize("how", ["since", "header", "both"])
async def test_a_watch_resumes_behind_its_token_and_the_header_beats_the_parameter(http: Plane, how: str) -> None:
    for number in range(4):
        await http.store.put(f"k{number}", b"v")
    query = {"since": "?since=fake.2", "header": "", "both": "?since=fake.0"}[how]
    headers = [] if how == "since" else ["Last-Event-ID: fake.2"]
    async with Reader(http, query, *headers) as watch:
        assert [(await watch.event()).id for _ in range(2)] == ["fake.3", "fake.4"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?since=other.1", 410, "watch_expired"),
        ("?since=fake.1", 410, "watch_expired"),
        ("?key=", 400, "invalid_key"),
        ("?key=a&prefix=b", 400, "invalid_parameter"),
        ("?limit=1", 400, "invalid_parameter"),
        ("?prefix=%FF", 400, "invalid_parameter"),
    ],
)
async def test_a_refusal_before_the_stream_is_an_answer_as_any_other(
    http: Plane, query: str, status: int, code: str
) -> None:
    http.store.forgotten = 2
    async with aiohttp.ClientSession(http.url) as client, client.get(f"/v1/watch{query}") as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)
        async with client.get("/v1/kv/none") as other:
            assert other.status == 404
    assert not http.store.watches


async def test_a_watcher_above_the_bound_is_refused_until_one_has_gone(http: Plane) -> None:
    async with Reader(http), Reader(http) as second:
        async with Reader(http) as third:
            assert third.status == 503
            assert b"too_many_watchers" in await third.reader.read()
        second.writer.close()
        await until(lambda: len(http.store.watches) == 1)
        async with Reader(http) as again:
            assert again.status == 200


async def test_a_client_that_leaves_an_idle_watch_is_noticed_at_once(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        assert (len(http.store.watches), api(http).watchers) == (1, 1)
    await until(lambda: not http.store.watches)
    assert api(http).watchers == 0


async def test_a_quiet_stream_says_a_comment_and_a_busy_one_does_not(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        streams = api(http)._shared.streams
        http.clock.seconds += QUIET_SECONDS - 0.001
        streams.look()
        await http.store.put("k", b"v")
        assert await watch.line() == "event: put\n"
        for _ in range(3):
            await watch.line()
        http.clock.seconds += QUIET_SECONDS - 0.001
        streams.look()
        http.clock.seconds += 0.001
        streams.look()
        streams.look()
        assert [await watch.line(), await watch.line()] == [": \n", "\n"]
        await http.store.put("k", b"v")
        assert await watch.line() == "event: put\n", "one comment for one silence"


async def test_a_comment_is_a_chunk_of_its_own_where_the_answer_is_chunked(http: Plane) -> None:
    async with aiohttp.ClientSession(http.url) as client, client.get("/v1/watch") as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        text = b""
        while b"synced" not in text:
            text += await answer.content.readany()
        http.clock.seconds += QUIET_SECONDS
        api(http)._shared.streams.look()
        assert await answer.content.readany() == b": \n\n"
        await http.store.put("k", b"v")
        assert b"event: put" in await answer.content.readany()


async def test_a_deaf_watcher_is_cut_by_a_named_event_and_memory_stays_bounded(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        (held,) = http.store.watches
        stream = next(iter(api(http)._shared.streams._open))
        sent = 0
        while held._over is None:
            sent += 1
            assert sent < 2000, "the bound was never reached"
            await http.store.put("k", b"v" * (1 << 18))
        transport = stream._transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 3 << 18, "what waits in the transport is a piece or two"
        kinds = [(await watch.event()).kind]
        while kinds[-1] == "put":
            kinds.append((await watch.event()).kind)
        assert kinds[-1] == "slow_reader"
        assert len(kinds) < sent
        assert await watch.ended()
    await until(lambda: not http.store.watches)


async def test_a_client_that_never_takes_what_waits_is_cut_after_a_while(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        stream = next(iter(api(http)._shared.streams._open))
        await _deafen(http, stream)
        http.clock.seconds += STUCK_SECONDS - 0.001
        api(http)._shared.streams.look()
        await asyncio.sleep(0)
        assert api(http).watchers == 1
        http.clock.seconds += 0.001
        api(http)._shared.streams.look()
        await until(lambda: not http.store.watches)


async def test_what_is_sent_behind_a_watch_does_not_pile_up(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        watch.writer.write(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv" * 10_000)
        await watch.writer.drain()
        await http.store.put("other", b"v")
        assert (await watch.event()).data["key"] == "other"
        server = api(http)._server
        assert server is not None
        assert [len(connection._messages) for connection in server.open_connections] == [0]
        assert "k" not in http.store.entries
    await until(lambda: not http.store.watches)


async def test_a_stop_of_the_server_ends_every_watch_with_a_named_event_and_at_once(http: Plane) -> None:
    async with Reader(http) as first, Reader(http, "?prefix=x") as second:
        for watch in (first, second):
            assert (await watch.event()).kind == "synced"
        async with asyncio.timeout(2):
            await http.server.stop()
        for watch in (first, second):
            event = await watch.event()
            assert (event.kind, event.data["code"]) == ("stopping", "stopping")
            assert await watch.ended()
    assert not http.store.watches


async def test_a_stop_does_not_wait_for_a_deaf_watcher(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        stream = next(iter(api(http)._shared.streams._open))
        await _deafen(http, stream)
        async with asyncio.timeout(2):
            await http.server.stop()
    assert not http.store.watches


async def test_an_event_that_is_cut_in_its_midst_is_never_ended_by_the_farewell(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        stream = next(iter(api(http)._shared.streams._open))
        rest = asyncio.ensure_future(watch.reader.read())
        await http.store.put("k", b"\x01" * (1 << 20))
        await until(lambda: stream._midway and not stream._writing)
        async with asyncio.timeout(5):
            await http.server.stop()
        try:
            cut = await rest
        except ConnectionResetError:
            cut = b""
        # A reader ends the event at the first empty line, and takes its token for the place to go on from.
        assert b"\n\n" not in cut
        assert b"stopping" not in cut
    assert not http.store.watches


async def test_a_member_that_stops_says_so_on_the_stream(http: Plane) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        http.store.stop()
        assert (await watch.event()).kind == "stopping"
        assert await watch.ended()


async def test_an_unforeseen_error_ends_the_stream_without_its_text_and_is_logged(
    http: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    async with Reader(http) as watch:
        assert (await watch.event()).kind == "synced"
        next(iter(http.store.watches)).fail(RuntimeError("secret"))
        assert await watch.ended()
    assert "RuntimeError: secret" in caplog.text
    async with RawHttp(http.port) as raw:
        assert (await raw.ask(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")).status == 404


async def test_many_watchers_cost_no_task_and_no_timer_each() -> None:
    limits = replace(Limits(), http_connections_max=300)
    async with plane(fast_http, limits) as http:
        readers = [await Reader(http).__aenter__() for _ in range(200)]
        for reader in readers:
            assert (await reader.event()).kind == "synced"
        tasks = len(asyncio.all_tasks())
        await http.store.put("k", b"v")
        for reader in readers:
            assert (await reader.event()).kind == "put"
        assert len(asyncio.all_tasks()) == tasks
        for reader in readers:
            await reader.__aexit__()
        await until(lambda: not http.store.watches)
        assert api(http)._shared.streams._timer is None
