"""Who is told of a write: everybody in a small cluster, a few in a large one, whose members pass news on, once."""

import asyncio
import random

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.peers import DeadTransport
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core import exchange
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry
from wavekv.runtime.engine import Engine, MemorySyncing
from wavekv.runtime.gossip import ASKED_MAX, PUSHES_MAX

FANOUT = 3


class Listening(DeadTransport):
    """Peers that take pushes, and answer only once the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[tuple[str, Envelope]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        self.pushed.append((url, message))
        await self.open.wait()
        return None


class Bench:
    """Member m0 of a cluster of `count`."""

    def __init__(self, count: int, direct_max: int) -> None:
        self.names = tuple(f"m{index}" for index in range(count))
        self.transport = Listening()
        self.engine = Engine(
            MemoryMember(0, self.names).replica,
            MemorySyncing(),
            self.transport,
            clock=FakeClock(),
            observer=Operations(),
            limits=LIMITS,
            settings=GossipSettings(
                push_direct_max=direct_max, push_fanout=FANOUT, push_delay_ms=0, push_spacing_ms=0, interval_ms=10**6
            ),
            rng=random.Random(1),
            on_round=lambda _: None,
            keep_epoch=self.nothing,
            on_superseded=lambda: None,
            status=dict,
        )
        self.gossip = self.engine.gossip
        self.gossip.connect(tuple(PeerAddress(name, name) for name in self.names))

    async def nothing(self) -> None: ...

    async def told(self) -> list[str]:
        """Return who was pushed to since the last time, each with the keys."""
        for _ in range(20):
            await asyncio.sleep(0)
        pushed, self.transport.pushed = self.transport.pushed, []
        return [f"{url} {','.join(entry.key for entry in message.entries)}" for url, message in pushed]

    async def hear(self, sender: str, *entries: Entry) -> Envelope:
        member = MemoryMember(self.names.index(sender), self.names)
        answer = await self.engine.receive_push(exchange.push_message(member.replica, entries, {}, 10_000))
        assert answer is not None
        return answer


NEWS = Entry("news", b"1", 9_000, 77, 1)


async def test_in_a_small_cluster_everybody_is_told_by_the_writer_and_nobody_else() -> None:
    bench = Bench(5, direct_max=4)
    await bench.engine.values.put("k", b"v")
    assert sorted(await bench.told()) == ["m1 k", "m2 k", "m3 k", "m4 k"]
    answer = await bench.hear("m1", NEWS)
    assert await bench.told() == []
    assert answer.acks, "the answer is the whole report"


async def test_in_a_large_cluster_a_few_are_told_of_an_own_write() -> None:
    bench = Bench(40, direct_max=4)
    told = []
    for number in range(30):
        await bench.engine.values.put(f"k{number}", b"v")
        told.append(await bench.told())
    assert {len(set(one)) for one in told} == {FANOUT}
    assert len({name for one in told for name in one}) > 2 * FANOUT, "others each time"


async def test_news_are_relayed_once_to_a_few_others_and_answered_by_a_receipt() -> None:
    bench = Bench(8, direct_max=4)
    for number in range(20):
        answer = await bench.hear("m1", NEWS._replace(key=f"n{number}", seq=number + 1))
        told = await bench.told()
        assert len(set(told)) == FANOUT
        assert f"m1 n{number}" not in told
        assert (answer.acks, answer.dots, answer.push_only) == ({}, {}, True)
    await bench.hear("m2", NEWS._replace(key="n3", seq=4))
    assert await bench.told() == [], "known already"
    await bench.hear("m2", NEWS._replace(key="n3", seq=50, timestamp=1))
    assert await bench.told() == [], "it lost against what is held"


async def test_what_is_news_again_while_its_push_is_under_way_goes_out_as_it_is_then() -> None:
    bench = Bench(8, direct_max=4)
    bench.transport.open.clear()
    for number in range(1, 60):
        await bench.hear("m1", NEWS._replace(seq=number, timestamp=9_000 + number))
    first = await bench.told()
    assert 0 < len(first) <= 7, "one push each at a time"
    bench.transport.open.set()
    for _ in range(20):
        await asyncio.sleep(0)
    last = {message.entries[0].seq for _, message in bench.transport.pushed}
    assert last == {59}


async def test_pushes_under_way_are_bounded_and_what_exceeds_them_goes_with_them() -> None:
    bench = Bench(200, direct_max=4)
    bench.transport.open.clear()
    for number in range(200):
        await bench.engine.values.put(f"k{number}", b"v")
    links = bench.gossip.links.values()
    assert sum(link.pushing for link in links) < PUSHES_MAX + FANOUT
    waiting = {key for link in links for key in link.queue.visible_at}
    assert all(link.pushing for link in links if link.queue.visible_at)
    assert {"k150", "k199"} <= waiting, "news of a saturated member wait for the pushes under way"
    bench.transport.open.set()
    await bench.told()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not any(link.pushing for link in links)
    bench.transport.pushed.clear()
    await bench.engine.values.put("later", b"v")
    assert len(await bench.told()) == FANOUT


async def test_who_joins_a_large_cluster_asks_a_bounded_number_at_a_time() -> None:
    bench = Bench(3 * ASKED_MAX, direct_max=4)
    for _ in range(3):
        bench.gossip.retry_now()
    assert sum(link.busy for link in bench.gossip.links.values()) == ASKED_MAX
    await bench.gossip.stop()


@pytest.mark.parametrize("renamed", [False, True])
async def test_a_peer_that_is_connected_under_another_name_or_address_keeps_its_state_with_its_address(
    renamed: bool,
) -> None:
    bench = Bench(1, direct_max=4)
    bench.gossip.connect((PeerAddress("10.0.0.1:7072", "http://10.0.0.1:7072", contact=True),))
    (link,) = bench.gossip.links.values()
    link.failures = 3
    url = "http://10.0.0.1:7072" if renamed else "http://10.0.0.2:7072"
    bench.gossip.connect((PeerAddress("m9", url),))
    assert list(bench.gossip.links) == ["m9"]
    now = bench.gossip.links["m9"]
    assert (now.name, now.url, now.contact, now.failures) == ("m9", url, False, 3 if renamed else 0)
