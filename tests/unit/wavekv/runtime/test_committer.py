"""Group commit: who shares a sync, who is woken when, and what a full or failed disk does."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember
from tests.fakes.syncing import HeldSyncing
from wavekv.config import Limits
from wavekv.core.ops import Set
from wavekv.core.steps import Group
from wavekv.errors import (
    DiskFailed,
    DiskFull,
    NotWritten,
    OutOfDescriptors,
    PreconditionFailed,
    TooManyWaiting,
    WaveKVError,
)
from wavekv.runtime import committer
from wavekv.runtime.committer import DRAIN_POLLS_MAX, Committer


class Bench:
    """A replica, a held disk, and the committer between them."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.replica = MemoryMember(0, ("m0",), limits).replica
        self.disk = HeldSyncing()
        self.shown: list[Group] = []
        self.committer = Committer(self.replica, self.disk, self.shown.append)

    def put(self, key: str) -> asyncio.Future[None]:
        staged = self.replica.put(key, b"v", 100)
        return self.committer.durable(staged.ticket)

    async def until_busy(self) -> None:
        for _ in range(DRAIN_POLLS_MAX + 5):
            await asyncio.sleep(0)
        assert self.disk.busy

    def keys(self) -> list[list[str]]:
        return [[op.entry.key for op in ops if isinstance(op, Set)] for ops in self.disk.groups]


async def test_writes_of_one_turn_share_a_group_and_wake_together() -> None:
    bench = Bench()
    writes = [bench.put("a"), bench.put("b"), bench.put("c")]
    await bench.until_busy()
    assert bench.keys() == [["a", "b", "c"]]
    assert not any(write.done() for write in writes)
    bench.disk.release()
    await asyncio.gather(*writes)
    assert len(bench.shown) == 1


async def test_what_arrives_while_a_group_is_out_is_the_next_group() -> None:
    bench = Bench()
    first = bench.put("a")
    await bench.until_busy()
    second = bench.put("b")
    await asyncio.sleep(0)
    bench.disk.release()
    await first
    assert not second.done()
    await bench.until_busy()
    assert bench.keys() == [["a"], ["b"]]
    bench.disk.release()
    await second


async def test_a_steady_stream_cannot_hold_back_a_group_for_ever() -> None:
    bench = Bench()
    writes = []
    for number in range(DRAIN_POLLS_MAX + 8):
        writes.append(bench.put(f"k{number}"))
        await asyncio.sleep(0)
    assert bench.disk.busy
    bench.disk.release()
    await bench.until_busy()
    bench.disk.release()
    await asyncio.gather(*writes)


async def test_a_durable_ticket_is_not_waited_for() -> None:
    bench = Bench()
    await asyncio.wait_for(bench.committer.durable(bench.replica.durable_ticket), 1)
    assert not bench.disk.busy


@pytest.mark.parametrize("refusal", [DiskFull("no room"), OutOfDescriptors("too many open files")])
async def test_what_is_not_written_fails_everything_staged_and_the_next_write_succeeds(refusal: NotWritten) -> None:
    bench = Bench()
    first = bench.put("a")
    await bench.until_busy()
    second = bench.put("b")
    await asyncio.sleep(0)
    bench.disk.release(refusal)
    for write in (first, second):
        with pytest.raises(type(refusal)):
            await write
    assert not bench.committer.failed.done()
    third = bench.put("c")
    await bench.until_busy()
    bench.disk.release()
    await third
    assert sorted(bench.replica.store.entries) == ["c"]


async def test_a_failed_disk_is_reported_and_nothing_is_written_any_more() -> None:
    bench = Bench()
    first = bench.put("a")
    await bench.until_busy()
    bench.disk.release(DiskFailed("input/output error"))
    with pytest.raises(DiskFailed):
        await first
    assert bench.committer.failed.done()
    with pytest.raises(DiskFailed):
        await bench.put("b")
    assert len(bench.disk.groups) == 1


async def test_a_caller_that_gave_up_does_not_disturb_the_others() -> None:
    bench = Bench()
    first, second = bench.put("a"), bench.put("b")
    await bench.until_busy()
    first.cancel()
    await asyncio.sleep(0)
    bench.disk.release()
    await second
    assert sorted(bench.replica.store.entries) == ["a", "b"]


async def test_draining_makes_everything_staged_durable() -> None:
    bench = Bench()
    write = bench.put("a")
    drained = asyncio.get_running_loop().create_task(bench.committer.drain())
    await bench.until_busy()
    assert not drained.done()
    bench.disk.release()
    await drained
    await write


async def test_after_a_full_disk_a_step_that_stages_nothing_waits_for_nothing_and_draining_ends() -> None:
    bench = Bench()
    write = bench.put("a")
    await bench.until_busy()
    bench.disk.release(DiskFull("no room"))
    with pytest.raises(DiskFull):
        await write
    await asyncio.wait_for(bench.committer.durable(bench.replica.merge([], 100).ticket), 1)
    await asyncio.wait_for(bench.committer.drain(), 1)
    assert not bench.disk.busy


@pytest.mark.parametrize("disk_is_full", [False, True])
async def test_a_refusal_that_speaks_of_a_staged_value_waits_until_that_value_is_durable(disk_is_full: bool) -> None:
    bench = Bench()
    staged = bench.put("a")
    refusal = PreconditionFailed("a holds a value", "1.1.1")
    refused = asyncio.ensure_future(bench.committer.refuse(refusal))
    await bench.until_busy()
    assert not refused.done()
    if disk_is_full:
        bench.disk.release(DiskFull("no room"))
        with pytest.raises(DiskFull):
            await staged
        with pytest.raises(DiskFull):
            await refused
    else:
        bench.disk.release()
        await staged
        with pytest.raises(PreconditionFailed):
            await refused


async def test_a_refusal_is_told_at_once_where_nothing_is_staged() -> None:
    bench = Bench()
    bench.put("a")
    await bench.until_busy()
    bench.disk.release()
    with pytest.raises(PreconditionFailed):
        await bench.committer.refuse(PreconditionFailed("a holds a value"))


async def test_behind_a_slow_disk_writes_queue_up_to_their_bound_and_reads_go_on() -> None:
    bench = Bench(replace(LIMITS, waiting_writes_max=4))
    known = bench.put("known")
    await bench.until_busy()
    bench.disk.release()
    await known
    writes = [bench.put("a")]
    await bench.until_busy()
    writes += [bench.put(key) for key in "bcd"]
    for _ in range(3):
        with pytest.raises(TooManyWaiting):
            bench.put("e")
    entry = bench.replica.store.get("known", 100)
    assert entry is not None
    assert bench.replica.store.get("a", 100) is None, "what is not durable is not shown"
    bench.disk.release()
    await writes[0]
    await bench.until_busy()
    assert bench.keys()[1:] == [["a"], ["b", "c", "d"]]
    writes.append(bench.put("e"))
    bench.disk.release()
    await asyncio.gather(*writes[:4])
    await bench.until_busy()
    bench.disk.release()
    await writes[4]
    assert bench.replica.waiting == 0


class Room:
    """Looks for room when told, and finds what the test wants."""

    def __init__(self) -> None:
        self.asked: list[Callable[[WaveKVError | None], None]] = []

    def __call__(self, done: Callable[[WaveKVError | None], None]) -> None:
        self.asked.append(done)


async def test_on_a_full_disk_values_are_refused_unstaged_and_deletes_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "ROOM_SECONDS", 0)
    bench, room = Bench(), Room()
    bench.committer = Committer(bench.replica, bench.disk, bench.shown.append, room)
    known = bench.put("known")
    await bench.until_busy()
    bench.disk.release()
    await known
    refused = bench.put("big")
    await bench.until_busy()
    bench.disk.release(DiskFull("no room"))
    with pytest.raises(DiskFull):
        await refused
    with pytest.raises(DiskFull):
        bench.put("another")
    deleted = bench.committer.durable(bench.replica.delete("known", 200).ticket)
    await bench.until_busy()
    bench.disk.release()
    await deleted
    assert bench.replica.store.get("known", 300) is None
    assert len(room.asked) == 1
    room.asked.pop()(DiskFull("still none"))
    while not room.asked:
        await asyncio.sleep(0)
    assert bench.replica.full is not None
    room.asked.pop()(None)
    while bench.replica.full is not None:
        await asyncio.sleep(0)
    taken = bench.put("another")
    await bench.until_busy()
    bench.disk.release()
    await taken


async def test_a_paced_commit_takes_along_what_arrives_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, pauses = Bench(), iter([60.0, 0.0])
    bench.committer = Committer(bench.replica, bench.disk, bench.shown.append, pace=lambda: next(pauses))
    timers: list[tuple[float, Callable[[], None]]] = []
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "call_later", lambda delay, then: timers.append((delay, then)))
        writes = [bench.put("a")]
        while not timers:
            await asyncio.sleep(0)
    assert not bench.disk.busy
    writes.append(bench.put("b"))
    for _ in range(3):
        await asyncio.sleep(0)
    [(delay, then)] = timers
    assert delay == 60.0
    then()
    assert bench.keys() == [["a", "b"]]
    bench.disk.release()
    await asyncio.gather(*writes)
    later = bench.put("c")
    await bench.until_busy()
    bench.disk.release()
    await later
