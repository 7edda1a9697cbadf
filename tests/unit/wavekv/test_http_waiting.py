"""Sessions and durability over HTTP, with the short way of plain requests and without it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from tests.fakes.key_values import ORIGIN
from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.config import Limits
from wavekv.core.session import DotRange

LIMITS = Limits()
SESSION = "Wavekv-Session"
ELSEWHERE = DotRange(9, 4, 4)
READS = [
    "GET /v1/kv/k",
    "HEAD /v1/kv/k",
    "GET /v1/kv",
    "GET /v1/explain/k",
    "POST /v1/multi-get",
    "GET /v1/watch?key=k",
]
WRITES = ["PUT /v1/kv/k", "DELETE /v1/kv/k", "POST /v1/batch"]
BODIES = {
    "/v1/multi-get": {"keys": ["k"]},
    "/v1/batch": {"operations": [{"op": "put", "key": "k", "value": "1"}, {"op": "delete", "key": "k"}]},
}


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param) as serving:
        await serving.store.put("k", b"v")
        yield serving


@pytest.fixture
async def client(http: Plane) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(http.url) as session:
        yield session


class Told:
    """Status, session header, entity tag and problem document of an answer."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = answer.status
        self.session = answer.headers.get(SESSION)
        self.etag = answer.headers.get("ETag")
        self.problem = json.loads(body) if answer.content_type == "application/problem+json" and body else {}


async def ask(client: aiohttp.ClientSession, target: str, session: str | None = None, query: str = "") -> Told:
    method, path = target.split()
    separator = "&" if "?" in path else "?"
    headers = {} if session is None else {SESSION: session}
    data = json.dumps(BODIES[path]).encode() if path in BODIES else b"v" if method == "PUT" else None
    headers |= {"Content-Type": "application/json"} if path in BODIES else {}
    async with client.request(method, f"{path}{separator}{query}", data=data, headers=headers) as answer:
        stream = answer.content_type == "text/event-stream"
        return Told(answer, b"" if stream else await answer.read())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


# ---- sessions ------------------------------------------------------------------------------------------------------


async def test_writes_are_answered_with_what_names_them_and_reads_are_not(client: aiohttp.ClientSession) -> None:
    assert (await ask(client, "PUT /v1/kv/k")).session == f"{ORIGIN}.2"
    assert (await ask(client, "PUT /v1/kv/k")).session == f"{ORIGIN}.3"  # on a connection that is warm
    assert (await ask(client, "PUT /v1/kv/k", query="ttl=5")).session == f"{ORIGIN}.4"
    assert (await ask(client, "POST /v1/batch")).session == f"{ORIGIN}.5-6"
    assert (await ask(client, "DELETE /v1/kv/k")).session is None  # which the batch had deleted
    await ask(client, "PUT /v1/kv/k")
    assert (await ask(client, "DELETE /v1/kv/k")).session == f"{ORIGIN}.8"
    assert (await ask(client, "GET /v1/kv")).session is None


async def test_a_batch_that_writes_nothing_names_nothing(client: aiohttp.ClientSession) -> None:
    body = {"operations": [{"op": "delete", "key": "none"}]}
    async with client.post("/v1/batch", json=body) as answer:
        assert (answer.status, answer.headers.get(SESSION)) == (200, None)


@pytest.mark.parametrize("target", [*READS, *WRITES])
async def test_a_request_waits_until_its_session_is_here(
    http: Plane, client: aiohttp.ClientSession, target: str
) -> None:
    waiting = asyncio.ensure_future(ask(client, target, f"{ORIGIN}.1,{ELSEWHERE}", "timeout=60"))
    await until(lambda: http.store.waiting == 1)
    assert not waiting.done()
    assert http.store.commits == 1
    await http.store.arrive(ELSEWHERE)
    assert (await waiting).status == 200
    assert http.store.waits[0] == 60


@pytest.mark.parametrize("target", [*READS, *WRITES])
async def test_a_session_that_does_not_come_in_time_is_told_how_far_it_got(
    http: Plane, client: aiohttp.ClientSession, target: str
) -> None:
    told = await ask(client, target, f"{ORIGIN}.1,9.4", "timeout=0")
    assert told.status == 504
    if not target.startswith("HEAD"):
        parts = {name: told.problem[name] for name in ("code", "covered", "missing")}
        assert parts == {"code": "coverage_timeout", "covered": f"{ORIGIN}.1", "missing": "9.4"}
    assert http.store.commits == 1
    assert http.operations.seen[-1][2] == "coverage_timeout"


@pytest.mark.parametrize("session", ["", "x", "7", "7.1,", "7.2-1", "1.2.3", f"{'7.1,' * 1000}7.1"])
async def test_what_is_no_token_is_refused(http: Plane, client: aiohttp.ClientSession, session: str) -> None:
    for target in (*READS, *WRITES):
        told = await ask(client, target, session)
        assert told.status == 400
        if not target.startswith("HEAD"):
            assert told.problem["code"] == "invalid_session"
    assert http.store.waits == []
    assert http.store.commits == 1


async def test_several_headers_are_one_session(http: Plane, client: aiohttp.ClientSession) -> None:
    head = f"GET /v1/kv/k?timeout=0 HTTP/1.1\r\nHost: localhost\r\n{SESSION}: {ORIGIN}.1\r\n{SESSION}: 9.4\r\n\r\n"
    async with RawHttp(http.port) as raw:
        answer = await raw.ask(head.encode())
    assert json.loads(answer.body)["missing"] == "9.4"


@pytest.mark.parametrize("timeout", ["-1", "1e3", "60.001", "61", "", "x", "1.0001", "9" * 20, "٥"])
async def test_a_time_out_of_bounds_is_refused_even_where_nothing_waits(
    client: aiohttp.ClientSession, timeout: str
) -> None:
    told = await ask(client, "GET /v1/kv/k", query=f"timeout={timeout}")
    assert (told.status, told.problem["code"]) == (400, "invalid_parameter")


async def test_times_are_taken_up_to_their_bound_and_have_a_default(http: Plane, client: aiohttp.ClientSession) -> None:
    for query, seconds in (("", 5.0), ("timeout=60", 60.0), ("timeout=0.25", 0.25)):
        await ask(client, "GET /v1/kv/k", f"{ORIGIN}.1", query)
        assert http.store.waits.pop() == seconds


@pytest.mark.parametrize("session", ["9.4", None])
async def test_a_request_whose_client_leaves_waits_no_more(http: Plane, session: str | None) -> None:
    """A session on a read, then a write on several members."""
    head = f"GET /v1/kv/k?timeout=60 HTTP/1.1\r\n{SESSION}: {session}\r\n"
    if session is None:
        head = "DELETE /v1/kv/k?timeout=60&durability=2 HTTP/1.1\r\n"
    async with RawHttp(http.port) as raw:
        raw.send(f"{head}Host: localhost\r\n\r\n".encode())
        await until(lambda: http.store.waiting == 1)
    await until(lambda: http.store.waiting == 0 and http.store.spreading == 0)
    await until(lambda: http.operations.seen != [])
    assert http.operations.seen[-1][2] == "client_gone"


# ---- durability ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", WRITES)
@pytest.mark.parametrize("asked", ["3", "all"])
async def test_a_write_is_answered_once_enough_members_hold_it(
    http: Plane, client: aiohttp.ClientSession, target: str, asked: str
) -> None:
    waiting = asyncio.ensure_future(ask(client, target, query=f"durability={asked}&timeout=60"))
    await until(lambda: http.store.waiting == 1)
    assert http.store.commits == 2  # durable here first
    await http.store.arrive(held_by=("m1",))
    assert not waiting.done()
    await http.store.arrive(held_by=("m2",))
    told = await waiting
    assert told.status == 200
    assert told.session is not None
    assert http.store.spreading == 0


@pytest.mark.parametrize("target", WRITES)
async def test_a_write_that_is_not_held_elsewhere_in_time_stays_and_says_so(
    http: Plane, client: aiohttp.ClientSession, target: str
) -> None:
    told = await ask(client, target, query="durability=2&timeout=0")
    assert (told.status, told.problem["code"]) == (504, "durability_timeout")
    assert told.problem["durable_on"] == ["fake"]
    assert told.session is not None
    assert (told.etag is None) == (target == "POST /v1/batch")
    assert http.store.commits == 2
    assert http.store.spreading == 0


@pytest.mark.parametrize("target", WRITES)
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("0", "invalid_parameter"),
        ("-1", "invalid_parameter"),
        ("two", "invalid_parameter"),
        ("", "invalid_parameter"),
        ("1.5", "invalid_parameter"),
        ("ALL", "invalid_parameter"),
        ("4", "durability_impossible"),
        ("1000000000", "durability_impossible"),
    ],
)
async def test_a_durability_that_cannot_be_is_refused_before_anything_is_stored(
    http: Plane, client: aiohttp.ClientSession, target: str, asked: str, code: str
) -> None:
    told = await ask(client, target, query=f"durability={asked}")
    assert (told.status, told.problem["code"]) == (400, code)
    assert http.store.commits == 1


async def test_durability_on_one_member_waits_for_no_other(http: Plane, client: aiohttp.ClientSession) -> None:
    http.store.members = 1
    for asked in ("1", "all"):
        assert (await ask(client, "PUT /v1/kv/k", query=f"durability={asked}&timeout=0")).status == 200


async def test_a_batch_s_document_takes_no_durability(client: aiohttp.ClientSession) -> None:
    body = {"operations": [{"op": "put", "key": "k", "value": "1"}], "durability": 2}
    async with client.post("/v1/batch", json=body) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "invalid_body")


async def test_the_ephemeral_store_takes_the_same_options(http: Plane, client: aiohttp.ClientSession) -> None:
    told = await ask(client, "PUT /v1/ephemeral/kv/k", query="durability=2&timeout=0")
    assert (told.status, told.session) == (504, f"{ORIGIN}.1")
    assert (await ask(client, "GET /v1/ephemeral/kv/k", "9.4", "timeout=0")).status == 504
    assert http.store.waits == []


# ---- a stop --------------------------------------------------------------------------------------------------------


async def test_a_stop_ends_the_waits_and_tells_a_writer_that_its_write_stays() -> None:
    async with plane(fast_http) as http, aiohttp.ClientSession(http.url) as client:
        reader = asyncio.ensure_future(ask(client, "GET /v1/kv/k", "9.4", "timeout=60"))
        writer = asyncio.ensure_future(ask(client, "PUT /v1/kv/k", query="durability=2&timeout=60"))
        await until(lambda: http.store.waiting == 2)
        async with asyncio.timeout(4):  # below what a stop grants requests in progress
            await http.server.stop()
        assert ((await reader).status, (await reader).problem["code"]) == (503, "stopping")
        told = await writer
        assert (told.status, told.problem["code"], told.session) == (504, "durability_timeout", f"{ORIGIN}.1")
        assert told.problem["durable_on"] == ["fake"]
