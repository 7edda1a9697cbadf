"""A round over a transport and a disk that the test holds: what is asked while a page is written."""

import asyncio
import random
from dataclasses import replace

from tests.fakes.cluster import LIMITS, MemoryMember, answer_to, contents
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.peers import DeadTransport
from tests.fakes.syncing import HeldSyncing
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core.messages import Envelope
from wavekv.runtime.engine import Engine

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


async def test_one_page_is_fetched_while_the_one_before_it_is_written_and_no_more() -> None:
    giver = MemoryMember(1, NAMES, PAGED)
    for number in range(7):
        giver.put(f"k{number}", b"v", 100)
    taker = MemoryMember(0, NAMES, PAGED)
    disk, transport = HeldSyncing(), MemoryTransport(giver)
    engine = Engine(
        taker.replica,
        disk,
        transport,
        clock=FakeClock(),
        observer=Operations(),  # type: ignore[arg-type]  # what else is told, is not
        limits=PAGED,
        settings=GossipSettings(),
        rng=random.Random(1),
        on_round=lambda _: None,
        keep_epoch=nothing,
        status=dict,
    )
    engine.gossip.connect((PeerAddress("m1", "http://m1"),))
    engine.gossip.retry_now()
    await turns()
    assert disk.busy
    assert transport.cursors == [None, (2, 2)], "two pages: one on its way to the disk, one in memory"
    assert taker.store.entries.get("k0") is None
    for _ in range(20):
        if disk.busy:
            disk.release(None)
        await turns()
    assert transport.cursors[:4] == [None, (2, 2), (2, 4), (2, 6)]
    assert contents(taker) == contents(giver)
    await engine.gossip.stop()
