"""One store at work: what clients are told and when, expiry as time goes by, and the store that has no disk."""

import asyncio
import random

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember, push
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.pages import whole
from tests.fakes.peers import DeadTransport
from tests.fakes.syncing import HeldSyncing
from tests.fakes.watched import Client, LoggedMember
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core import exchange
from wavekv.core.condition import ABSENT
from wavekv.core.messages import Envelope
from wavekv.core.writes import Delete, Put
from wavekv.errors import (
    DiskFull,
    KeyNotFound,
    PreconditionFailed,
    StaleProcess,
    Superseded,
    WatchExpired,
    WaveKVError,
)
from wavekv.runtime.committer import Syncing
from wavekv.runtime.engine import Engine, MemorySyncing


async def nothing() -> None: ...


class Bench:
    """An engine over a member in memory and a disk that the test holds."""

    def __init__(
        self,
        names: tuple[str, ...] = ("m0",),
        syncing: Syncing | None = None,
        suffix: str = "",
        transport: DeadTransport | None = None,
    ) -> None:
        self.disk = HeldSyncing()
        self.clock = FakeClock()
        self.clock.seconds = 1.0
        self.member = LoggedMember(0, names, LIMITS)
        self.engine = Engine(
            self.member.replica,
            syncing or self.disk,
            transport or DeadTransport(),
            clock=self.clock,
            observer=Operations(),
            limits=LIMITS,
            settings=GossipSettings(),
            rng=random.Random(1),
            on_round=lambda _: None,
            keep_epoch=nothing,
            on_superseded=self.supersede,
            status=dict,
            token_suffix=suffix,
        )
        self.values = self.engine.values

    def supersede(self) -> None:
        self.engine.supersede(Superseded("a newer process serves"))

    async def release(self, error: WaveKVError | None = None) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        if self.disk.busy:
            self.disk.release(error)
        for _ in range(5):
            await asyncio.sleep(0)


async def started(bench: Bench, *works: object) -> list[asyncio.Future[object]]:
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.disk.busy
    return tasks


async def test_a_write_is_told_and_shown_once_durable() -> None:
    bench = Bench()
    (put,) = await started(bench, bench.values.put("k", b"v"))
    assert (put.done(), bench.values.get("k"), bench.values.count()) == (False, None, 0)
    await bench.release()
    assert (put.done(), bench.values.count()) == (True, 1)
    assert bench.values.get("k") is not None


@pytest.mark.parametrize("verb", ["delete", "expire"])
async def test_that_a_key_is_gone_is_told_when_the_delete_under_way_is_durable(verb: str) -> None:
    bench = Bench()
    (put,) = await started(bench, bench.values.put("k", b"v"))
    await bench.release()
    await put
    second = bench.values.delete("k") if verb == "delete" else bench.values.expire("k", None)
    first, late = await started(bench, bench.values.delete("k"), second)
    assert (first.done(), late.done()) == (False, False)
    await bench.release()
    await first
    with pytest.raises(KeyNotFound):
        await late


async def test_a_delete_that_never_reached_the_disk_leaves_nobody_believing_in_it() -> None:
    bench = Bench()
    (put,) = await started(bench, bench.values.put("k", b"v"))
    await bench.release()
    await put
    tasks = await started(bench, bench.values.delete("k"), bench.values.delete("k"))
    await bench.release(DiskFull("no room"))
    for task in tasks:
        with pytest.raises(DiskFull):
            await task
    assert bench.values.get("k") is not None


async def test_an_absent_key_is_told_at_once_where_nothing_is_under_way() -> None:
    bench = Bench()
    with pytest.raises(KeyNotFound):
        await asyncio.wait_for(bench.values.delete("k"), 5)
    assert not bench.disk.busy


async def test_a_batch_answers_in_its_order_once_durable_and_its_refusal_waits_too() -> None:
    bench = Bench()
    batch, refused = await started(
        bench,
        bench.values.batch([Put("a", b"1"), Delete("none"), Put("a", b"2"), Delete("a")]),
        bench.values.batch([Put("b", b"1"), Put("b", b"2", condition=ABSENT)]),
    )
    assert (batch.done(), refused.done()) == (False, False)
    await bench.release()
    first, none, second, third = await batch  # type: ignore[misc]
    assert none is None
    facts = [one.entry._replace(value=b"") for one in (first, second)]
    assert [first.previous, second.previous, third.previous] == [None, *facts], "values are let go"
    assert third.entry.value is None
    with pytest.raises(PreconditionFailed):
        await refused
    assert bench.values.get("b") is None


async def test_an_abandoned_batch_is_told_to_all_who_wait_and_what_waits_is_nothing() -> None:
    bench = Bench()
    tasks = await started(bench, bench.values.batch([Put("a", b"1"), Put("b", b"2")]), bench.values.put("a", b"3"))
    await bench.release(DiskFull("no room"))
    for task in tasks:
        with pytest.raises(DiskFull):
            await task
    assert (bench.member.replica.waiting, bench.member.replica._waiting.size_bytes) == (0, 0)
    (again,) = await started(bench, bench.values.put("a", b"4", ABSENT))
    await bench.release()
    await again


async def test_the_memory_store_commits_without_a_disk() -> None:
    bench = Bench(syncing=MemorySyncing())
    written = await asyncio.wait_for(bench.values.put("k", b"v", expires_at=5000), 5)
    assert bench.values.get("k") == written.entry
    await asyncio.wait_for(bench.values.batch([Put("a", b"1"), Delete("k")]), 5)
    assert bench.values.count() == 1


async def test_what_expired_before_the_start_is_no_news_to_new_watchers_and_is_to_resumed_ones() -> None:
    bench = Bench(syncing=MemorySyncing())
    early = bench.engine.watches.token()
    for number in range(1100):
        bench.member.replica.put(f"k{number}", b"", 1000, expires_at=1500)
    bench.member.commit()
    bench.clock.seconds = 10.0
    await asyncio.wait_for(bench.engine.start(), 5)
    assert bench.values.count() == 0
    client = Client(bench.values.watch("", prefix=True, since=None))
    expiring = asyncio.ensure_future(bench.engine.expire())
    assert await client.read() == ["synced"]
    resumed = Client(bench.values.watch("k10", prefix=True, since=early))
    missed = [f"expire k{number}" for number in range(1100) if f"{number}".startswith("10")]
    assert sorted(await resumed.read()) == sorted([*missed, "synced"])
    expiring.cancel()
    await asyncio.gather(expiring, return_exceptions=True)


async def test_expiries_are_told_a_few_at_a_time_until_all_are() -> None:
    bench = Bench(syncing=MemorySyncing())
    for number in range(1100):
        bench.member.replica.put(f"k{number}", b"", 1000, expires_at=1500)
    bench.member.commit()
    client = Client(bench.values.watch("", prefix=True, since=None))
    await client.read()
    bench.clock.seconds = 10.0
    expiring = asyncio.ensure_future(bench.engine.expire())
    told = await client.read()
    assert sorted(told) == sorted(f"expire k{number}" for number in range(1100))
    assert bench.values.count() == 0
    expiring.cancel()
    await asyncio.gather(expiring, return_exceptions=True)


async def test_the_tokens_of_a_member_s_two_stores_are_not_each_other_s() -> None:
    persistent, ephemeral = Bench(syncing=MemorySyncing()), Bench(syncing=MemorySyncing(), suffix="e")
    for bench in (persistent, ephemeral):
        await bench.engine.start()
        assert await Client(bench.values.watch("", prefix=True, since=bench.engine.watches.token())).read() == [
            "synced"
        ]
    with pytest.raises(WatchExpired):
        ephemeral.values.watch("", prefix=True, since=persistent.engine.watches.token())
    with pytest.raises(WatchExpired):
        persistent.values.watch("", prefix=True, since=ephemeral.engine.watches.token())


async def test_explain_tells_winner_losers_and_who_covers_it() -> None:
    bench = Bench(("m0", "m1", "m2"))
    other = LoggedMember(1, ("m0", "m1", "m2"), LIMITS)
    lost = bench.member.put("k", b"mine", 100)
    won = other.put("k", b"theirs", 200)
    push(other, bench.member, (won,))
    told = bench.values.explain("k")
    assert told["held"]["etag"] == won.etag
    assert [(loss["etag"], loss["lost_to"], loss["value_bytes"]) for loss in told["losers"]] == [
        (lost.etag, won.etag, 4)
    ]
    assert told["covered_by"] == {"m1": False, "m2": False}
    assert bench.values.explain("none") == {"key": "none", "held": None, "losers": [], "covered_by": {}}


async def test_explain_of_an_expired_and_of_a_deleted_key() -> None:
    bench = Bench()
    bench.member.replica.put("e", b"v", 100, expires_at=500)
    bench.member.put("d", b"v", 100)
    bench.member.delete("d", 100)
    held = [bench.values.explain(key)["held"] for key in ("e", "d")]
    assert [(one["expired"], one["deleted"], one["value_bytes"]) for one in held] == [
        (True, False, 1),
        (False, True, 0),
    ]


# ---- superseded ----------------------------------------------------------------------------------------------------


def successor() -> MemoryMember:
    """A later process of m0."""
    member = MemoryMember(0, ("m0", "m1"))
    member.restart()
    return member


def readings(bench: Bench) -> list[str]:
    """Return the codes with which a superseded store refuses to show anything."""
    values = bench.values
    calls = [
        lambda: values.get("k"),
        lambda: whole(values.list("", None, 10)),
        values.count,
        values.expiring,
        lambda: values.watch("", prefix=True, since=None),
        lambda: values.explain("k"),
    ]
    found = []
    for call in calls:
        with pytest.raises(WaveKVError) as caught:
            call()
        found.append(caught.value.code)
    return found


async def test_a_message_of_a_newer_process_of_its_name_ends_a_store_s_service() -> None:
    bench = Bench(("m0", "m1"))
    client = Client(bench.values.watch("", prefix=True, since=None))
    await client.read()
    client.wait()
    late = exchange.push_message(successor().replica, (), {}, 1000)
    with pytest.raises(Superseded):
        await bench.engine.receive_push(late)
    assert readings(bench) == ["superseded"] * 6
    with pytest.raises(Superseded):
        await client.read()
    other = exchange.push_message(MemoryMember(1, ("m0", "m1")).replica, (), {}, 1000)
    with pytest.raises(Superseded):
        await bench.engine.receive_push(other)


class Refusing(DeadTransport):
    """Peers that refuse every message as one of a process that `newest` of `member` superseded."""

    def __init__(self, member: str, newest: int, *, own_word: bool) -> None:
        super().__init__()
        self.refusal = StaleProcess("refused", member, newest, own_word=own_word)

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        self.asked.append(url)
        raise self.refusal

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        self.asked.append(url)
        raise self.refusal


FAR = LIMITS.future_ms_max + 10**9


@pytest.mark.parametrize(
    ("member", "newest", "own_word", "ends"),
    [
        ("m0", 2, True, True),
        ("m0", 1, True, False),
        ("m1", 2, True, False),
        ("m0", FAR, True, False),
        ("m0", 2, False, False),
    ],
)
async def test_a_refusal_ends_it_only_if_a_newer_process_of_its_name_says_so_itself(
    member: str, newest: int, own_word: bool, ends: bool
) -> None:
    transport = Refusing(member, newest, own_word=own_word)
    bench = Bench(("m0", "m1"), transport=transport)
    bench.engine.gossip.connect((PeerAddress("m1", "http://m1"),))
    for _ in range(2):
        bench.engine.gossip.retry_now()
        for _ in range(5):
            await asyncio.sleep(0)
    assert len(transport.asked) == (1 if ends else 2), "a superseded process asks nobody"
    assert (bench.values.refusal is not None) == ends
    await bench.engine.gossip.stop()
