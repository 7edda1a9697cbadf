"""Times to live over HTTP: how they are asked for, told and kept, with the short way of plain requests and without."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.planes import Plane, fast_http, plain_http, plane
from tests.fakes.raw_http import RawHttp
from wavekv.config import Limits
from wavekv.errors import CratePeers

NOW_MS = 1_000_000
LIMITS = Limits(ttl_ms_max=86_400_000)


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param, LIMITS) as serving:
        serving.clock.seconds = NOW_MS / 1000
        yield serving


@pytest.fixture
async def client(http: Plane) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(http.url) as session:
        yield session


async def put(client: aiohttp.ClientSession, query: str, path: str = "/v1/kv/k") -> tuple[int, str]:
    async with client.put(f"{path}?{query}", data=b"v") as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [("5", 5000), ("0.001", 1), ("1.5", 1500), ("86400", 86_400_000), ("86400.000", 86_400_000), ("007", 7000)],
)
async def test_a_value_expires_the_seconds_after_now_that_were_asked_for(
    http: Plane, client: aiohttp.ClientSession, ttl: str, milliseconds: int
) -> None:
    assert (await put(client, f"ttl={ttl}"))[0] == 201
    assert http.store.entries["k"].expires_at == NOW_MS + milliseconds


@pytest.mark.parametrize(
    "ttl",
    ["", "0", "0.000", "-1", "+1", "1.", ".5", "1.0001", "1e3", "nan", "inf", "86400.001", "9" * 400, "Keep", "٣"],
)
async def test_what_is_no_time_to_live_is_refused_and_nothing_is_stored(
    http: Plane, client: aiohttp.ClientSession, ttl: str
) -> None:
    status, problem = await put(client, f"ttl={ttl}")
    assert (status, "invalid_parameter" in problem) == (400, True)
    assert not http.store.entries


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
async def test_only_a_put_takes_a_time_to_live(client: aiohttp.ClientSession, method: str) -> None:
    async with client.request(method, "/v1/kv/k?ttl=5") as answer:
        assert answer.status == 400


async def test_a_read_tells_when_the_value_expires_and_how_long_that_is(
    http: Plane, client: aiohttp.ClientSession
) -> None:
    await put(client, "ttl=5")
    http.clock.seconds += 1.25
    for method in ("GET", "HEAD"):
        async with client.request(method, "/v1/kv/k") as answer:
            told = answer.headers["Wavekv-Expires-At"], answer.headers["Wavekv-Ttl"]
            assert (answer.status, told) == (200, (str(NOW_MS + 5000), "3.750"))
            tag = answer.headers["ETag"]
    async with client.get("/v1/kv/k", headers={"If-None-Match": tag}) as answer:
        assert (answer.status, answer.headers["Wavekv-Ttl"]) == (304, "3.750")
    await put(client, "")
    async with client.get("/v1/kv/k") as answer:
        assert "Wavekv-Ttl" not in answer.headers
        assert "Wavekv-Expires-At" not in answer.headers


async def test_both_ways_tell_an_expiry_in_the_same_words() -> None:
    seen = []
    for way in (fast_http, plain_http):
        async with plane(way) as http, RawHttp(http.port) as raw:
            await http.store.put("k", b"v", expires_at=61_007)
            for _ in range(2):  # the second one of a connection takes the shorter way
                answer = await raw.ask(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
            seen.append((answer.status, answer.body, {**answer.headers, "date": ""}))
    assert seen[0] == seen[1]
    assert seen[0][2]["wavekv-ttl"] == "61.007"


async def test_an_expired_value_is_absent_at_its_very_millisecond(http: Plane, client: aiohttp.ClientSession) -> None:
    await put(client, "ttl=5")
    for later, status in ((4.999, 200), (0.001, 404)):
        http.clock.seconds += later
        for _ in range(2):
            async with client.get("/v1/kv/k") as answer:
                assert answer.status == status
    assert (await put(client, ""))[0] == 201


async def test_keep_leaves_the_expiry_that_is_there(http: Plane, client: aiohttp.ClientSession) -> None:
    assert (await put(client, "ttl=keep"))[0] == 201
    assert http.store.entries["k"].expires_at is None
    await put(client, "ttl=5")
    http.clock.seconds += 1
    async with client.put("/v1/kv/k?ttl=keep", data=b"new") as answer:
        assert (answer.status, answer.headers["Wavekv-Ttl"]) == (200, "4.000")
    assert http.store.entries["k"].expires_at == NOW_MS + 5000
    await put(client, "")
    assert http.store.entries["k"].expires_at is None


async def test_a_listing_names_the_expiry_of_each_entry_that_has_one(
    http: Plane, client: aiohttp.ClientSession
) -> None:
    await put(client, "ttl=5", "/v1/kv/a")
    await put(client, "", "/v1/kv/b")
    async with client.get("/v1/kv") as answer:
        entries = (await answer.json())["entries"]
    assert [entry.get("expires_at") for entry in entries] == [NOW_MS + 5000, None]
    assert "expires_at" not in entries[1]


async def test_a_refused_expiry_is_told_by_its_code(http: Plane, client: aiohttp.ClientSession) -> None:
    http.store.error = CratePeers("a node of the original system is a member")
    status, problem = await put(client, "ttl=5")
    assert (status, "crate_peers" in problem) == (409, True)
