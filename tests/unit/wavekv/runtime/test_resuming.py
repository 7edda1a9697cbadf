"""A repair that is cut off goes on where it was, not from the first key."""

import asyncio
import random
from dataclasses import replace

from tests.fakes.cluster import LIMITS, MemoryMember, cluster, sync
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.peers import MemoryTransport
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core.messages import Envelope
from wavekv.errors import PeerUnreachable
from wavekv.runtime.engine import Engine, MemorySyncing

KEYS = [f"k{index}" for index in range(9)]


class Breaking(MemoryTransport):
    """Leads to one member, and fails in place of chosen list requests; remembers where each list began."""

    def __init__(self, member: MemoryMember, failing: set[int]) -> None:
        super().__init__({"http://m1": member})
        self._failing = failing
        self.begun: list[str | None] = []

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        if request.listed is not None:
            self.begun.append(request.listed_after)
            if len(self.begun) in self._failing:
                raise PeerUnreachable("cut")
        return await super().exchange(url, request)


async def nothing() -> None: ...


async def test_lists_go_on_behind_the_last_range_that_was_answered() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=1), healing=False)
    for key in KEYS:
        b.put(key, b"1", 100)
    sync(a, b)
    b.replica.forget(KEYS[1:])
    b.commit()
    a.restart()
    transport = Breaking(b, failing={3, 6})
    engine = Engine(
        a.replica,
        MemorySyncing(),
        transport,
        clock=FakeClock(),
        observer=Operations(),
        limits=a.limits,
        settings=GossipSettings(interval_ms=3_600_000),
        rng=random.Random(1),
        on_round=lambda _: None,
        keep_epoch=nothing,
        on_superseded=lambda: None,
        status=dict,
    )
    engine.gossip.connect((PeerAddress("m1", "http://m1"),))
    link = engine.gossip.links["m1"]
    for lists in (3, 6):
        engine.gossip.retry_now()
        async with asyncio.timeout(10):
            while len(transport.begun) < lists or link.busy:
                await asyncio.sleep(0)
        assert a.replica.healing
    engine.gossip.retry_now()
    async with asyncio.timeout(10):
        while not a.replica.trusted:
            await asyncio.sleep(0)
    await engine.gossip.stop()
    assert transport.begun == [None, "k0", "k1", "k1", "k2", "k3", "k3", "k4", "k5", "k6", "k7", "k8"]
    assert list(a.store.entries) == ["k0"]
