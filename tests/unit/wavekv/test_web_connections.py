"""Connections of the HTTP planes: what they owe has a deadline, what they hold is counted and given back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from tests.fakes.raw_http import RawHttp
from wavekv.config import Address, Limits
from wavekv.http_api import HttpApi
from wavekv.plane_settings import HTTP_PLANE, PlaneSettings
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections
from wavekv.runtime.listening import open_loopback
from wavekv.web_connections import BoundedHandler
from wavekv.web_guard import SAFE_HEADERS

GET = b"GET /v1/kv/%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_GET = b"GET /v1/kv/%s HTTP/1.1\r\nHost: localhost\r\nX-Slow-Way: 1\r\n\r\n"
MIB = 1 << 20


class World:
    """An HTTP plane whose book, clock and budget the test holds."""

    def __init__(self, settings: PlaneSettings, bytes_max: int) -> None:
        self.clock = FakeClock()
        self.budget = ByteBudget("http", bytes_max)
        self.book = Connections("http", settings, self.budget, self.clock.monotonic)
        self.limits = Limits()
        self.store = FakeKeyValues(self.clock, self.limits)
        self.api = HttpApi(self.store, None, self.limits, Operations(), self.clock, connections=self.book)
        self.port = 0

    def late(self, milliseconds: int) -> None:
        """Let time pass, and look at the deadlines."""
        self.clock.seconds += milliseconds / 1000
        self.book.look()


@asynccontextmanager
async def world(settings: PlaneSettings = HTTP_PLANE, bytes_max: int = 4 * MIB) -> AsyncIterator[World]:
    made = World(settings, bytes_max)
    sockets = open_loopback([Address("127.0.0.1", 0)])
    made.port = sockets[0].getsockname()[1]
    await made.api.start(sockets)
    try:
        yield made
    finally:
        await made.api.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds; the test's own deadline is pytest's."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def owed(here: World, what: str) -> int:
    return len(here.book._owing[what])  # type: ignore[index]


async def test_every_answer_keeps_pages_of_other_hosts_out() -> None:
    async with world() as here, RawHttp(here.port) as raw:
        await here.store.put("k", b"alert(1)")
        foreign = b"GET /nowhere HTTP/1.1\r\nHost: x.example\r\n\r\n"
        status = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"
        asks = (GET % b"k", GET % b"k", SLOW_GET % b"k", GET % b"none", foreign, status, b"nonsense\r\n\r\n")
        for ask in asks:
            answer = await raw.ask(ask)
            for name, value in SAFE_HEADERS.items():
                assert answer.headers[name.lower()] == value, ask
        assert answer.status == 400


async def test_half_a_head_is_answered_408_at_its_deadline() -> None:
    async with world() as here, RawHttp(here.port) as raw:
        raw.send(b"GET /v1/kv/k HTTP/1.1\r\nHost: local")
        await until(lambda: owed(here, "head") == 1)
        here.late(HTTP_PLANE.head_ms_max - 1)
        assert here.book.count == 1
        here.late(1)
        answer = await raw.answer()
        assert (answer.status, b"request_too_slow" in answer.body) == (408, True)
        assert await raw.closed()
        assert here.book.closed["head"] == 1


async def test_a_head_in_pieces_that_ends_in_time_is_served() -> None:
    async with world() as here, RawHttp(here.port) as raw:
        for piece in (b"GET /v1/kv/k HTTP/1.1\r\n", b"Host: local", b"host\r\n"):
            raw.send(piece)
            await until(lambda: owed(here, "head") == 1)
        raw.send(b"\r\n")
        assert (await raw.answer()).status == 404
        assert owed(here, "head") == 0
        here.late(60_000)
        assert (await raw.ask(GET % b"k")).status == 404


@pytest.mark.parametrize("size", [HTTP_PLANE.head_bytes_max - 200, HTTP_PLANE.head_bytes_max + 1])
async def test_a_head_in_pieces_is_bounded_as_a_whole(size: int) -> None:
    async with world() as here, RawHttp(here.port) as raw:
        raw.send(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n")
        await until(lambda: owed(here, "head") == 1)
        for number in range(size // 8192):
            raw.send(b"X-%02d: %s\r\n" % (number, b"x" * (8192 - 8)))
        raw.send(b"Y: %s\r\n" % (b"x" * (size % 8192)))
        await raw.writer.drain()
        if size > HTTP_PLANE.head_bytes_max:
            answer = await raw.answer()
            assert (answer.status, b"malformed_http" in answer.body) == (400, True)
            assert await raw.closed()
        else:
            raw.send(b"\r\n")
            assert (await raw.answer()).status == 404


async def test_a_body_that_stops_is_answered_408_and_one_that_comes_is_not() -> None:
    async with world() as here, RawHttp(here.port) as stops, RawHttp(here.port) as comes:
        for raw in (stops, comes):
            raw.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\nx")
        await until(lambda: owed(here, "body") == 2)
        comes.send(bytes(150_000))
        await until(lambda: any(slot.served is not None and slot.served.progress("body") > 150_000
                                for slot in here.book._owing["body"]))  # fmt: skip
        here.late(HTTP_PLANE.body_ms_grace + 1)
        answer = await asyncio.wait_for(stops.answer(), 5)
        assert (answer.status, b"request_too_slow" in answer.body) == (408, True)
        assert await stops.closed()
        comes.send(bytes(200_000 - 150_001))
        assert (await comes.answer()).status == 201
        assert owed(here, "body") == 0
        assert here.budget.used == 0
    assert set(here.store.entries) == {"k"}


async def test_a_connection_that_says_nothing_is_closed_and_one_that_asked_is_not() -> None:
    async with world() as here, RawHttp(here.port) as silent, RawHttp(here.port) as asked:
        assert (await asked.ask(GET % b"k")).status == 404
        await until(lambda: here.book.count == 2)
        here.late(HTTP_PLANE.first_byte_ms_max)
        assert await silent.closed()
        assert (await asked.ask(GET % b"k")).status == 404


async def test_a_body_that_does_not_fit_is_answered_503_and_the_next_fits_again() -> None:
    async with world(bytes_max=MIB // 2) as here, RawHttp(here.port) as raw:
        raw.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % MIB + bytes(MIB))
        answer = await raw.answer()
        assert (answer.status, b"memory_budget" in answer.body) == (503, True)
        assert answer.headers["retry-after"] == "1"
        assert here.book.closed["memory_budget"] == 1
        await until(lambda: here.budget.used == 0)
        async with RawHttp(here.port) as another:
            body = bytes(MIB // 4)
            another.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert (await another.answer()).status == 201
        await until(lambda: here.budget.used == 0)
        assert here.budget.peak <= MIB // 2


@pytest.mark.parametrize("ask", [GET, SLOW_GET])
async def test_answers_that_are_not_read_are_counted_stop_and_go_on_when_they_are_read(ask: bytes) -> None:
    async with world(bytes_max=64 * MIB) as here, RawHttp(here.port) as raw:
        await here.store.put("k", bytes(MIB))
        for _ in range(40):
            raw.send(ask % b"k")
        await until(lambda: owed(here, "unread") == 1)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert here.budget.used < 4 * MIB, "one answer and its copies, not forty"
        for _ in range(40):
            assert len((await raw.answer()).body) == MIB
        await until(lambda: here.budget.used == 0)
        assert owed(here, "unread") == 0


async def test_a_client_that_does_not_read_is_cut_at_its_deadline() -> None:
    async with world(bytes_max=64 * MIB) as here, RawHttp(here.port) as raw:
        await here.store.put("k", bytes(MIB))
        for _ in range(40):
            raw.send(GET % b"k")
        await until(lambda: owed(here, "unread") == 1)
        for _ in range(1000):
            await asyncio.sleep(0)
        here.late(HTTP_PLANE.body_ms_grace + MIB // HTTP_PLANE.bytes_per_second_min * 1000)
        here.late(HTTP_PLANE.body_ms_grace)
        assert here.book.closed["unread"] == 1
        assert (here.book.count, here.budget.used) == (0, 0)


async def test_a_connection_over_the_bound_gets_the_place_of_the_longest_idle_one() -> None:
    settings = replace(HTTP_PLANE, connections_max=2, per_address_max=2, evicted_ms_idle=0)
    async with world(settings) as here, RawHttp(here.port) as first, RawHttp(here.port) as second:
        assert (await first.ask(GET % b"k")).status == 404
        assert (await second.ask(GET % b"k")).status == 404
        here.clock.seconds = asyncio.get_running_loop().time() + 1
        async with RawHttp(here.port) as third:
            assert (await third.ask(GET % b"k")).status == 404
            assert await first.closed()
        assert (here.book.closed["evicted"], here.book.count <= 2) == (1, True)


async def test_a_broken_request_is_told_to_its_client_and_not_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as here, RawHttp(here.port) as raw:
        answer = await raw.ask(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\nsecret-value-bytes\r\n\r\n")
        assert answer.status == 400
    assert "secret" not in caplog.text


async def test_an_answer_lets_go_of_its_body_once_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp keeps an answer until the next one is made: beside what is counted, each connection held a value more."""
    answers: list[Any] = []
    finish = BoundedHandler.finish_response

    async def noting(self: BoundedHandler, request: Any, answer: Any, started: Any) -> Any:
        answers.append(answer)
        return await finish(self, request, answer, started)

    monkeypatch.setattr(BoundedHandler, "finish_response", noting)
    async with world() as plane, RawHttp(plane.port) as raw:
        await plane.store.put("k", b"v" * MIB)
        for _ in range(2):
            assert (await raw.ask(SLOW_GET % b"k")).body == b"v" * MIB
        await until(lambda: len(answers) == 2 and answers[-1].body is None)
    assert [answer.body for answer in answers] == [None, None]
