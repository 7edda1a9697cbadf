"""What the peer plane holds of messages that are being merged: counted decoded, and given back however they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.key_values import FakeClock
from wavekv.config import Address, Limits
from wavekv.core.block import Block
from wavekv.core.codec import envelope
from wavekv.core.messages import Envelope
from wavekv.core.packed import pack
from wavekv.core.types import Entry
from wavekv.errors import NotWritten
from wavekv.peers.identity import Names
from wavekv.peers.service import PeerService
from wavekv.peers.transport import CONTENT_TYPE
from wavekv.peers.wrapping import held_bytes
from wavekv.plane_settings import PEER_PLANE
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections
from wavekv.runtime.listening import open_loopback

MIB = 1 << 20
PAGE = Envelope(sender_id=2, name="m1", entries=tuple(Entry(f"k{seq}", bytes(MIB), 1, 1, seq) for seq in range(1, 5)))
BODY = envelope.pack(PAGE)


class SlowStore:
    """A store whose disk takes its time: messages are merged once `ended` is set."""

    def __init__(self) -> None:
        self.merging = 0
        self.ended = asyncio.Event()
        self.failure: NotWritten | None = None

    async def receive_request(self, request: Envelope) -> Envelope:
        """Wait, then answer."""
        self.merging += 1
        await self.ended.wait()
        if self.failure is not None:
            raise self.failure
        return Envelope(sender_id=request.sender_id)

    async def receive_push(self, message: Envelope) -> Envelope | None:
        """Wait, then answer."""
        return await self.receive_request(message)

    def proof(self) -> Envelope:
        """Return nothing worth reading."""
        return Envelope(sender_id=1)


class World:
    """A peer plane without TLS, whose store and budget the test holds."""

    def __init__(self, bytes_max: int, session: aiohttp.ClientSession) -> None:
        self.budget = ByteBudget("peer", bytes_max)
        self.store = SlowStore()
        self._session = session
        book = Connections("peer", PEER_PLANE, self.budget, FakeClock().monotonic)
        self.service = PeerService(
            {"persistent": self.store}, names=Names(None), tls=None, limits=Limits(), admin=_no_admin, connections=book
        )
        self.port = 0

    async def say(self) -> tuple[int, bytes]:
        """Send the page; return the answer."""
        url = f"http://127.0.0.1:{self.port}/wavekv/sync2/persistent"
        async with self._session.post(url, data=BODY, headers={"Content-Type": CONTENT_TYPE}) as answer:
            return answer.status, await answer.read()

    async def until_merging(self, count: int) -> None:
        """Wait until so many messages are being merged."""
        while self.store.merging < count:
            await asyncio.sleep(0)

    async def until_free(self) -> None:
        """Wait until nothing is held."""
        while self.budget.used:
            await asyncio.sleep(0)


async def _no_admin(_request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("nobody asks")


@asynccontextmanager
async def world(bytes_max: int) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as session:
        made = World(bytes_max, session)
        listener = open_loopback([Address("127.0.0.1", 0)])[0]
        made.port = listener.getsockname()[1]
        await made.service.start([listener])
        try:
            yield made
        finally:
            made.store.ended.set()
            await made.service.stop()


def test_a_message_is_counted_as_it_is_held_and_not_as_it_travels() -> None:
    assert len(BODY) < MIB / 8
    assert 4 * MIB < held_bytes(PAGE) < 4 * MIB + 4096
    block = Block(["k"], [pack(Entry("k", bytes(MIB), 1, 1, 1))])
    assert MIB < held_bytes(Envelope(sender_id=2, block=block)) < MIB + 4096
    assert held_bytes(Envelope(sender_id=2, acks=dict.fromkeys(range(1000), 1))) >= 100_000
    assert held_bytes(Envelope(sender_id=2, dots={1: tuple((n, n) for n in range(1, 2000, 2))})) >= 100_000


async def test_messages_that_are_merged_take_no_more_than_the_budget() -> None:
    async with world(9 * MIB) as plane:
        slow = [asyncio.create_task(plane.say()) for _ in range(2)]
        await plane.until_merging(2)
        assert plane.budget.used >= 8 * MIB
        status, told = await plane.say()
        assert (status, b"memory_budget" in told) == (503, True)
        plane.store.ended.set()
        assert [status for status, _ in await asyncio.gather(*slow)] == [200, 200]
        await plane.until_free()
        assert (await plane.say())[0] == 200


@pytest.mark.parametrize("failing", [True, False], ids=["refused", "left"])
async def test_what_a_message_held_is_given_back_however_it_ends(failing: bool) -> None:
    async with world(9 * MIB) as plane:
        saying = asyncio.create_task(plane.say())
        await plane.until_merging(1)
        if failing:
            plane.store.failure = NotWritten("the disk is full")
            plane.store.ended.set()
            assert (await saying)[0] == 503
        else:
            saying.cancel()
            with suppress(asyncio.CancelledError):
                await saying
            plane.store.ended.set()
        await plane.until_free()
