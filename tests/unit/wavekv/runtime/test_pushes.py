"""Pushes and rounds that somebody waits for: a write on other members, a session that is not here yet."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember, cluster, sync, wire
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.peers import MemoryTransport
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core import exchange
from wavekv.core.session import dots_of
from wavekv.core.types import Entry
from wavekv.runtime.engine import Engine, MemorySyncing

SLOW = GossipSettings(push_delay_ms=3_600_000, push_spacing_ms=3_600_000, interval_ms=3_600_000, fanout=1)
"""A push or a round that nobody waits for never comes."""
LONG = 3600.0


async def nothing() -> None: ...


class Bench:
    """An engine with peers in memory, two by default, and a store that is durable at once."""

    def __init__(self, count: int = 3, settings: GossipSettings = SLOW) -> None:
        self.members = cluster(count)
        addresses = {f"http://{member.replica.identity.name}": member for member in self.members[1:]}
        self.transport = MemoryTransport(addresses, receipts=settings.push_direct_max < count - 1)
        self.engine = Engine(
            self.members[0].replica,
            MemorySyncing(),
            self.transport,
            clock=FakeClock(),
            observer=Operations(),
            limits=LIMITS,
            settings=settings,
            rng=random.Random(1),
            on_round=lambda _: None,
            keep_epoch=nothing,
            on_superseded=lambda: None,
            status=dict,
        )
        self.engine.gossip.connect(tuple(PeerAddress(url.removeprefix("http://"), url) for url in addresses))

    async def write(self, key: str, count: int | None) -> tuple[str, ...]:
        with self.engine.values.spread(count) as spread:
            written = await self.engine.values.put(key, b"v")
            return await spread.reached(dots_of([written.entry]), LONG)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.engine.gossip.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_a_write_that_nobody_waits_for_waits_for_the_next_push(bench: Bench) -> None:
    await bench.engine.values.put("a", b"v")
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.transport.pushed == []


async def test_a_write_on_several_members_is_pushed_at_once_with_what_was_queued(bench: Bench) -> None:
    await bench.engine.values.put("a", b"v")
    async with asyncio.timeout(10):
        assert await bench.write("b", None) == ("m0", "m1", "m2")
    assert bench.transport.pushed == [("http://m1", ["a", "b"]), ("http://m2", ["a", "b"])]
    async with asyncio.timeout(10):
        assert set(await bench.write("c", 2)) > {"m0"}


async def test_the_next_write_that_nobody_waits_for_is_spaced_again(bench: Bench) -> None:
    async with asyncio.timeout(10):
        await bench.write("a", None)
    await bench.engine.values.put("b", b"v")
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(bench.transport.pushed) == 2


async def test_what_is_written_while_a_push_is_under_way_goes_with_the_next_one(bench: Bench) -> None:
    bench.transport.held = asyncio.Event()
    first = asyncio.ensure_future(bench.write("a", 2))
    await until(lambda: len(bench.transport.pushed) == 2)
    others = [asyncio.ensure_future(bench.write(key, 2)) for key in "bc"]
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(bench.transport.pushed) == 2
    bench.transport.held.set()
    async with asyncio.timeout(10):
        await asyncio.gather(first, *others)
    await until(lambda: len(bench.transport.pushed) == 4)
    assert sorted(bench.transport.pushed[2:]) == [("http://m1", ["b", "c"]), ("http://m2", ["b", "c"])]


async def test_a_reader_makes_the_member_ask_whoever_has_what_it_waits_for(bench: Bench) -> None:
    holder: MemoryMember = bench.members[2]
    entry: Entry = holder.put("k", b"v", 100)
    bench.members[0].replica.healing = False
    bench.members[0].replica.reports.hear(exchange.report(holder.replica, 100), 100)
    async with asyncio.timeout(10):
        await bench.engine.values.covered(dots_of([entry]), LONG)
    assert bench.engine.values.get("k") == entry
    assert set(bench.transport.asked) == {"http://m2"}


async def test_a_reader_makes_the_member_ask_anybody_where_nobody_is_known_to_have_it(bench: Bench) -> None:
    entry = bench.members[1].put("k", b"v", 100)
    waiting = asyncio.ensure_future(bench.engine.values.covered(dots_of([entry]), LONG))
    await until(lambda: bench.transport.asked != [])
    assert len(bench.transport.asked) == SLOW.fanout
    waiting.cancel()


async def test_a_report_in_a_request_of_the_other_member_ends_the_wait(bench: Bench) -> None:
    bench.transport.held = asyncio.Event()
    write = asyncio.ensure_future(bench.write("a", 2))
    await until(lambda: len(bench.transport.pushed) == 2)
    sync(bench.members[1], bench.members[0])
    request = exchange.Round(bench.members[1].replica, "m0", "m0").request(100)
    await bench.engine.receive_request(wire(request))
    async with asyncio.timeout(10):
        assert await write == ("m0", "m1")


async def test_a_report_in_the_answer_of_a_round_ends_the_wait(bench: Bench) -> None:
    bench.transport.held = asyncio.Event()
    write = asyncio.ensure_future(bench.write("a", None))
    await until(lambda: len(bench.transport.pushed) == 2)
    bench.engine.gossip.retry_now()
    async with asyncio.timeout(10):
        assert await write == ("m0", "m1", "m2")


@pytest.mark.parametrize("count", [2, 4, 6])
async def test_where_pushes_are_relayed_as_many_are_told_and_asked_as_somebody_waits_for(count: int) -> None:
    bench = Bench(9, replace(SLOW, push_direct_max=3, push_fanout=2))
    async with asyncio.timeout(10):
        names = await bench.write("k", count)
    assert len(names) >= count
    assert len({url for url, _ in bench.transport.pushed}) == max(2, count - 1)
    await bench.engine.gossip.stop()
