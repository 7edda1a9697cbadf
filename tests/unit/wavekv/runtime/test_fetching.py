"""A round over a transport and a disk that the test holds: what is asked while a page is written."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from tests.fakes.cluster import LIMITS, MemoryMember, answer_to, contents
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.peers import DeadTransport
from tests.fakes.syncing import HeldSyncing
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core import exchange
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry
from wavekv.errors import DiskFull, PeerUnreachable
from wavekv.runtime.committer import Syncing
from wavekv.runtime.engine import Engine, MemorySyncing
from wavekv.runtime.link import Link

NAMES = ("m0", "m1")
PAGED = replace(LIMITS, page_entries_max=2)


class MemoryTransport(DeadTransport):
    """Answers from a member in memory; `cursors` are the cursors of the requests."""

    def __init__(self, responder: MemoryMember) -> None:
        super().__init__()
        self.cursors: list[object] = []
        self._responder = responder

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        self.cursors.append(request.resume_from)
        return answer_to(self._responder, request, 10_000)


async def nothing() -> None: ...


async def turns() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def giver_of(index: int, names: tuple[str, ...] = NAMES) -> MemoryMember:
    """Return a member that holds seven keys of a third one."""
    giver = MemoryMember(index, names, PAGED)
    giver.replica.merge([Entry(f"k{number}", b"v", 100, 77, number + 1) for number in range(7)], 10_000)
    giver.commit()
    return giver


def engine_of(
    taker: MemoryMember,
    disk: Syncing,
    transport: DeadTransport,
    on_round: Callable[[Link], None] = lambda _: None,
    settings: GossipSettings = GossipSettings(),  # noqa: B008
) -> Engine:
    return Engine(
        taker.replica,
        disk,
        transport,
        clock=FakeClock(),
        observer=Operations(),
        limits=PAGED,
        settings=settings,
        rng=random.Random(1),
        on_round=on_round,
        keep_epoch=nothing,
        on_superseded=lambda: None,
        status=dict,
    )


async def test_pages_are_fetched_from_one_peer_at_a_time() -> None:
    names = ("m0", "m1", "m2", "m3")
    transports = {f"http://{name}": MemoryTransport(giver_of(at, names)) for at, name in enumerate(names) if at}

    class Everybody(DeadTransport):
        async def exchange(self, url: str, request: Envelope) -> Envelope:
            await asyncio.sleep(0)
            return await transports[url].exchange(url, request)

    taker, ended = MemoryMember(0, names, PAGED), list[str]()
    engine = engine_of(taker, MemorySyncing(), Everybody(), lambda link: ended.append(link.name))
    engine.gossip.connect(tuple(PeerAddress(name, f"http://{name}") for name in names))
    engine.gossip.retry_now()
    async with asyncio.timeout(10):
        while not taker.store.context.covers(77, 7):
            await asyncio.sleep(0)
    await turns()
    asked = {url: len(transport.cursors) for url, transport in transports.items()}
    assert sorted(asked.values())[:2] == [1, 1], "two were asked for a first page, and left"
    assert len(ended) == 1, "a round that was left counts for nothing"
    engine.gossip.retry_now()
    await turns()
    assert sorted(ended) == sorted([*names[1:], ended[0]])
    await engine.gossip.stop()


async def test_one_page_is_fetched_while_the_one_before_it_is_written_and_no_more() -> None:
    giver = giver_of(1)
    taker = MemoryMember(0, NAMES, PAGED)
    disk, transport = HeldSyncing(), MemoryTransport(giver)
    engine = engine_of(taker, disk, transport)
    engine.gossip.connect((PeerAddress("m1", "http://m1"),))
    engine.gossip.retry_now()
    await turns()
    assert disk.busy
    assert transport.cursors == [None, (77, 2)], "two pages: one on its way to the disk, one in memory"
    assert taker.store.entries.get("k0") is None
    for _ in range(20):
        if disk.busy:
            disk.release(None)
        await turns()
    assert transport.cursors[:4] == [None, (77, 2), (77, 4), (77, 6)]
    assert contents(taker) == contents(giver)
    await engine.gossip.stop()


async def test_nobody_else_is_asked_in_an_interval_while_pages_come() -> None:
    names = ("m0", "m1", "m2")
    asked: list[str] = []
    go_on = asyncio.Event()
    giver = giver_of(1, names)

    class Slow(DeadTransport):
        async def exchange(self, url: str, request: Envelope) -> Envelope:
            asked.append(url)
            if request.resume_from is not None:
                await go_on.wait()
            return answer_to(giver, request, 10_000)

    taker = MemoryMember(0, names, PAGED)
    engine = engine_of(taker, MemorySyncing(), Slow(), settings=GossipSettings(interval_ms=1, fanout=2))
    engine.gossip.connect((PeerAddress("m1", "http://m1"),))
    engine.gossip.start()
    async with asyncio.timeout(10):
        while len(asked) < 2:
            await asyncio.sleep(0)
        engine.gossip.connect((PeerAddress("m1", "http://m1"), PeerAddress("m2", "http://m2")))
        for _ in range(2000):  # several intervals go by
            await asyncio.sleep(0)
        assert asked == ["http://m1", "http://m1"]
        go_on.set()
        while "http://m2" not in asked:
            await asyncio.sleep(0)
    await engine.gossip.stop()


async def test_a_fetch_that_is_cut_off_goes_on_behind_the_last_page_that_is_safe() -> None:
    giver, taker = giver_of(1), MemoryMember(0, NAMES, PAGED)

    class CutOff(MemoryTransport):
        async def exchange(self, url: str, request: Envelope) -> Envelope:
            answer = await super().exchange(url, request)
            if self.cursors == [None, (77, 2), (77, 4)]:
                raise PeerUnreachable("the connection broke")
            return answer

    transport = CutOff(giver)
    engine = engine_of(taker, MemorySyncing(), transport)
    engine.gossip.connect((PeerAddress("m1", "http://m1"),))
    for _ in range(2):
        engine.gossip.retry_now()
        await turns()
    assert transport.cursors[:5] == [None, (77, 2), (77, 4), (77, 4), (77, 6)]
    assert contents(taker) == contents(giver)
    assert taker.store.context.covers(77, 7)
    await engine.gossip.stop()


async def test_a_fetch_whose_last_page_was_not_written_begins_anew() -> None:
    giver, taker = giver_of(1), MemoryMember(0, NAMES, PAGED)
    disk = HeldSyncing()

    class CutOff(MemoryTransport):
        async def exchange(self, url: str, request: Envelope) -> Envelope:
            answer = await super().exchange(url, request)
            if self.cursors == [None, (77, 2)]:
                raise PeerUnreachable("the connection broke")
            return answer

    transport = CutOff(giver)
    engine = engine_of(taker, disk, transport)
    engine.gossip.connect((PeerAddress("m1", "http://m1"),))
    engine.gossip.retry_now()
    await turns()
    disk.release(DiskFull("no room"))
    await turns()
    assert transport.cursors == [None, (77, 2)]
    assert engine.gossip.links["m1"].unfinished is None
    await engine.gossip.stop()


async def test_others_have_turns_while_a_page_is_merged_and_while_it_is_shown() -> None:
    taker = MemoryMember(0, NAMES, replace(LIMITS, merge_slice_entries=2))
    peer = MemoryMember(1, NAMES)
    engine = engine_of(taker, MemorySyncing(), DeadTransport())
    others = 0

    async def count() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0)
            others += not taker.store.context.covers(77, 20)

    counting = asyncio.create_task(count())
    entries = tuple(Entry(f"k{seq}", b"v", 100, 77, seq) for seq in range(1, 21))
    message = exchange.envelope(peer.replica, 10_000, entries=entries, since=0, floor=0, acks={77: 20})
    await engine.receive_request(message)
    counting.cancel()
    assert others >= 10 + 8, "a turn behind each slice that is merged, and each that is shown"
    assert len(taker.store.packed) == 20
