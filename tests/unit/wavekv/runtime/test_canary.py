"""Canaries: how long a peer takes, as the writer alone measures it; and that nobody else meets them."""

import asyncio
import random

import pytest

from tests.fakes.cluster import LIMITS, as_crate, push, wire
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.pages import whole
from tests.fakes.peers import DeadTransport
from tests.fakes.watched import LoggedMember
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core import exchange
from wavekv.core.types import Entry
from wavekv.core.writes import Delete, Put
from wavekv.errors import InvalidKey, Starting
from wavekv.runtime.canary import HIDDEN, Canary, behind_all
from wavekv.runtime.engine import Engine, MemorySyncing

NAMES = ("m0", "m1", "m2")
SETTINGS = GossipSettings()


async def nothing() -> None: ...


class Timed(Operations):
    """Remembers canaries too."""

    def __init__(self) -> None:
        super().__init__()
        self.canaries: list[tuple[str, float]] = []

    def canary(self, peer: str, seconds: float) -> None:
        self.canaries.append((peer, seconds))


class Bench:
    """The ephemeral engine of m0, its canary, and two peers that the test lets hear and report."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clock.seconds = 100.0
        self.observer = Timed()
        self.members = [LoggedMember(index, NAMES) for index in range(3)]
        self.engine = Engine(
            self.members[0].replica,
            MemorySyncing(),
            DeadTransport(),
            clock=self.clock,
            observer=self.observer,
            limits=LIMITS,
            settings=SETTINGS,
            rng=random.Random(1),
            on_round=lambda _: None,
            keep_epoch=nothing,
            on_superseded=lambda: None,
            status=dict,
            hidden=HIDDEN,
        )
        self.connect("m1", "m2")
        self.canary = Canary(
            self.members[0].replica,
            self.engine.committer,
            lambda: self.engine.gossip.links,
            clock=self.clock,
            observer=self.observer,
            settings=SETTINGS,
            rng=random.Random(1),
        )
        self.engine.coverage.on_heard = self.canary.heard
        self.values = self.engine.values

    def connect(self, *names: str) -> None:
        self.engine.gossip.connect(tuple(PeerAddress(name, f"http://{name}") for name in names))

    @property
    def flown(self) -> Entry:
        (key,) = (key for key in self.members[0].store.entries if key.startswith(HIDDEN))
        return self.members[0].store.entries[key]

    def reports(self, index: int) -> None:
        of = self.members[index].replica
        exchange.hear_report(self.members[0].replica, wire(exchange.report(of, 100_000)), 100_000)
        self.engine.coverage.heard(of.identity.name)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_canary_is_timed_until_each_peer_reports_it(bench: Bench) -> None:
    await bench.canary.write()
    bench.clock.seconds += 0.5
    bench.reports(1)  # which has not got it
    assert (bench.observer.canaries, bench.canary.seconds("m1")) == ([], 0.5)
    push(bench.members[0], bench.members[1], (bench.flown,), 100_000)
    bench.reports(1)
    bench.clock.seconds += 2
    bench.reports(1)
    assert bench.observer.canaries == [("m1", 0.5)]
    assert (bench.canary.seconds("m1"), bench.canary.seconds("m2")) == (0.5, 2.5)


async def test_a_peer_that_lacks_a_canary_is_timed_from_the_first_that_it_lacks(bench: Bench) -> None:
    await bench.canary.write()
    first = bench.flown
    bench.clock.seconds += 10
    await bench.canary.write()
    second = bench.flown
    assert second.seq == first.seq + 1
    push(bench.members[0], bench.members[1], (second,), 100_000)
    bench.reports(1)
    assert bench.observer.canaries == []
    push(bench.members[0], bench.members[1], (first,), 100_000)
    bench.reports(1)
    assert bench.observer.canaries == [("m1", 10.0)]


async def test_a_peer_that_is_gone_is_forgotten_and_one_not_asked_yet_unknown(bench: Bench) -> None:
    await bench.canary.write()
    bench.connect("m2")
    await bench.canary.write()
    bench.clock.seconds += 1
    assert (bench.canary.seconds("m1"), bench.canary.seconds("m2"), bench.canary.seconds("m9")) == (None, 1.0, None)


async def test_no_canary_flies_without_peers_or_where_it_would_be_refused_or_kept_for_ever(bench: Bench) -> None:
    replica = bench.members[0].replica
    replica.writable = Starting("not yet")
    await bench.canary.write()
    replica.writable = None
    bench.members[0].configure_crates("c0")
    exchange.hear_report(replica, as_crate(wire(exchange.report(bench.members[1].replica, 100))), 100_000)
    await bench.canary.write()
    replica.reports.crates = False
    bench.connect()
    await bench.canary.write()
    assert bench.canary.seconds("m1") is None
    assert dict(bench.members[0].store.entries) == {}


async def test_a_canary_expires_long_after_the_next_is_due(bench: Bench) -> None:
    await bench.canary.write()
    assert bench.flown.expires_at is not None
    assert bench.flown.expires_at - bench.clock.now_ms() >= 5 * SETTINGS.canary_ms


# ---- hidden from clients -------------------------------------------------------------------------------------------


async def test_clients_can_neither_use_nor_see_the_members_own_keys(bench: Bench) -> None:
    await bench.canary.write()
    await bench.values.put("\1", b"1", expires_at=200_000)
    await bench.values.put("k", b"2")
    own = bench.flown.key
    for refused in (
        lambda: bench.values.put(own, b"v"),
        lambda: bench.values.delete(own),
        lambda: bench.values.expire(own, None),
        lambda: bench.values.batch([Put("a", b"v"), Delete(HIDDEN + "x")]),
    ):
        with pytest.raises(InvalidKey):
            await refused()
    for read in (bench.values.get, bench.values.explain, lambda key: whole(bench.values.list(key, None, 10))):
        with pytest.raises(InvalidKey):
            read(own)
    for prefix in (True, False):
        with pytest.raises(InvalidKey):
            bench.values.watch(own, prefix=prefix, since=None)
    assert [entry.key for entry in whole(bench.values.list("", None, 10)).entries] == ["\1", "k"]
    assert [entry.key for entry in whole(bench.values.list("", "\1", 10)).entries] == ["k"]
    assert [entry.key for entry in whole(bench.values.list("\1", None, 1)).entries] == ["\1"]
    assert (bench.values.count(), bench.values.expiring()) == (2, 1)


async def test_watches_tell_nothing_of_them_new_resumed_or_when_they_expire(bench: Bench) -> None:
    await bench.values.put("k", b"1")
    await bench.canary.write()
    watch = bench.values.watch("", prefix=True, since=None)
    first = await watch.next()
    assert [(change.kind, change.key) for change in first] == [("put", "k"), ("synced", "")]
    await bench.canary.write()
    bench.clock.seconds += 1000
    bench.engine._expire_some()
    await bench.values.put("l", b"2")
    resumed = bench.values.watch("", prefix=True, since=first[-1].token)
    assert [(change.kind, change.key) for change in await watch.next()] == [("put", "l")]
    assert [(change.kind, change.key) for change in await resumed.next()] == [("put", "l"), ("synced", "")]


async def test_the_other_store_hides_nothing() -> None:
    bench = Bench()
    bench.values._hidden = None
    await bench.values.put(HIDDEN + "k", b"v")
    assert bench.values.count() == 1


def test_the_least_key_behind_the_hidden_ones_is_not_hidden() -> None:
    assert HIDDEN + "\U0010ffff" * 255 < behind_all(HIDDEN) < "\1"


async def test_it_flies_again_and_again() -> None:
    bench = Bench()
    bench.canary._settings = GossipSettings(canary_ms=1, canary_ms_per_peer=0)
    flying = asyncio.ensure_future(bench.canary.run())
    async with asyncio.timeout(10):
        while bench.members[0].replica.origin == 0 or bench.members[0].store.next_seq < 4:
            await asyncio.sleep(0)
    flying.cancel()
    assert bench.flown.seq >= 3
