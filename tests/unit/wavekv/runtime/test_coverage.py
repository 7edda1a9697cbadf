"""Who waits for coverage: readers for what is not here yet (R13), writers for other members (R12)."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from tests.fakes.cluster import CLUSTER, LIMITS, MemoryMember, answer_to, as_crate, cluster, push, sync, wire
from wavekv.config import GossipSettings, Limits
from wavekv.core import exchange
from wavekv.core.membership import Membership
from wavekv.core.ops import DropOrigins
from wavekv.core.session import DotRange, dots_of
from wavekv.core.types import Entry
from wavekv.errors import CoverageTimeout, DurabilityImpossible, DurabilityTimeout, TooManyWaiting
from wavekv.runtime.coverage import Coverage, Holds

LONG = 3600.0


class Bench:
    """Members in memory; `m0` is the one whose coverage is tested. `sought` are the questions its peers were asked."""

    def __init__(self, size: int = 3, limits: Limits = LIMITS, aliases: dict[str, str] | None = None) -> None:
        self.members = cluster(size)
        self.sought: list[Holds] = []
        names = aliases or {}
        self.coverage = Coverage(
            self.members[0].replica, limits, GossipSettings(), self.sought.append, lambda name: names.get(name, name)
        )

    def write(self, member: int = 0, key: str = "k") -> tuple[Entry, tuple[DotRange, ...]]:
        entry = self.members[member].put(key, b"v", 100)
        return entry, dots_of([entry])

    def bring(self, *entries: Entry) -> None:
        push(self.members[1], self.members[0], entries)
        self.coverage.advanced()

    def reports(self, member: int) -> None:
        """Let a member push nothing and m0 hear its report."""
        of = self.members[member]
        exchange.hear_report(self.members[0].replica, wire(exchange.report(of.replica, 100)), 100)
        self.coverage.heard(of.replica.identity.name)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def waiting(work: Awaitable[object]) -> "asyncio.Future[object]":
    task = asyncio.ensure_future(work)
    await turns()
    return task


# ---- readers -------------------------------------------------------------------------------------------------------


async def test_what_is_covered_is_not_waited_for_not_even_for_no_time() -> None:
    bench = Bench()
    _, dots = bench.write()
    await bench.coverage.covered(dots, 0)
    assert bench.sought == []


async def test_a_session_of_an_origin_that_all_have_dropped_is_not_waited_for_but_what_lies_above_is() -> None:
    bench = Bench()
    bench.members[0].replica.heed(DropOrigins(5, ((77, 3),)))
    bench.members[0].commit()
    await bench.coverage.covered((DotRange(77, 1, 3),), 0)
    with pytest.raises(CoverageTimeout):
        await bench.coverage.covered((DotRange(77, 1, 4),), 0)


async def test_a_reader_is_woken_by_the_group_that_brings_its_last_dot() -> None:
    bench = Bench()
    (first, one), (second, two), (other, _) = bench.write(1), bench.write(1, "l"), bench.write(2, "m")
    reader = await waiting(bench.coverage.covered(one + two, LONG))
    assert bench.coverage.waiting_sessions == 1
    for entry in (other, second):
        bench.bring(entry)
        await turns()
        assert not reader.done()
    bench.bring(first)
    await turns()
    assert reader.done()
    assert reader.exception() is None
    assert bench.coverage.waiting_sessions == 0


async def test_an_entry_that_waits_for_the_disk_wakes_nobody() -> None:
    bench = Bench()
    entry, dots = bench.write(1)
    reader = await waiting(bench.coverage.covered(dots, LONG))
    message = exchange.push_message(bench.members[1].replica, (entry,), {}, 100)
    exchange.receive_push(bench.members[0].replica, wire(message), 100)
    bench.coverage.advanced()
    await turns()
    assert not reader.done()
    bench.members[0].commit()
    bench.coverage.advanced()
    await turns()
    assert reader.done()


async def test_a_write_that_lost_to_a_newer_one_is_covered_too() -> None:
    bench = Bench()
    _, dots = bench.write(1)
    newer = bench.members[1].put("k", b"w", 200)
    reader = await waiting(bench.coverage.covered(dots, LONG))
    bench.bring(newer)
    await turns()
    assert not reader.done()  # the older dot was not told of yet
    sync(bench.members[0], bench.members[1])
    bench.coverage.advanced()
    await turns()
    assert reader.done()


async def test_a_reader_whose_time_is_over_is_told_how_far_it_got() -> None:
    bench = Bench()
    entries = [bench.write(1, key)[0] for key in "abc"]
    bench.bring(entries[0], entries[2])
    with pytest.raises(CoverageTimeout) as refused:
        await bench.coverage.covered(dots_of(entries), 0)
    assert refused.value.problem()["covered"] == "2.1,2.3"
    assert refused.value.problem()["missing"] == "2.2"
    assert "2.2" in refused.value.detail
    assert bench.coverage.waiting_sessions == 0


async def test_one_more_reader_than_the_bound_is_refused_and_one_that_leaves_makes_room() -> None:
    bench = Bench(limits=replace(LIMITS, waiting_sessions_max=2))
    _, dots = bench.write(1)
    readers = [await waiting(bench.coverage.covered(dots, LONG)) for _ in range(2)]
    with pytest.raises(TooManyWaiting):
        await bench.coverage.covered(dots, LONG)
    readers[0].cancel()
    await turns()
    late = await waiting(bench.coverage.covered(dots, LONG))
    assert not late.done()
    readers[1].cancel()
    late.cancel()
    await turns()
    assert bench.coverage.waiting_sessions == 0


async def test_waiting_readers_share_a_search_now_and_then_that_tells_who_has_what_they_lack() -> None:
    bench = Bench()
    _, one = bench.write(1)
    _, two = bench.write(2, "l")
    bench.reports(1)
    readers = [await waiting(bench.coverage.covered(dots, LONG)) for dots in (one, one, two)]
    assert len(bench.sought) == 1
    async with asyncio.timeout(10):
        while len(bench.sought) == 1:  # what came after the first search is sought a little later
            await asyncio.sleep(0)
    await turns()
    assert len(bench.sought) == 2
    holds = bench.sought[-1]
    assert [holds(name) for name in ("m1", "m2", "m9")] == [True, False, False]
    for reader in readers:
        reader.cancel()
    await turns()


# ---- writers -------------------------------------------------------------------------------------------------------


async def spread(bench: Bench, count: int | None, dots: tuple[DotRange, ...], seconds: float = LONG) -> tuple[str, ...]:
    with bench.coverage.spread(count) as place:
        return await place.reached(dots, seconds)


async def test_a_write_counts_its_own_member_and_each_other_by_its_report() -> None:
    bench = Bench()
    entry, dots = bench.write()
    two = await waiting(spread(bench, 2, dots))
    every = await waiting(spread(bench, None, dots))
    bench.reports(1)
    await turns()
    assert not two.done()  # m1 reported, and has it not
    push(bench.members[0], bench.members[1], (entry,))
    bench.reports(1)
    bench.reports(1)  # the same member twice is one
    await turns()
    assert await two == ("m0", "m1")
    assert not every.done()
    push(bench.members[0], bench.members[2], (entry,))
    bench.reports(2)
    assert await every == ("m0", "m1", "m2")
    assert bench.coverage.waiting_spreads == 0


async def test_reports_in_requests_and_in_answers_count() -> None:
    for hear in (_request, _answer):
        bench = Bench()
        entry, dots = bench.write()
        write = await waiting(spread(bench, 2, dots))
        push(bench.members[0], bench.members[1], (entry,))
        hear(bench.members[0], bench.members[1])
        bench.coverage.heard("m1")
        assert await write == ("m0", "m1")


def _request(hearer: MemoryMember, other: MemoryMember) -> None:
    exchange.receive_request(hearer.replica, wire(exchange.Round(other.replica, "m0", "m0").request(100)), 100)


def _answer(hearer: MemoryMember, other: MemoryMember) -> None:
    current = exchange.Round(hearer.replica, "m1", "m1")
    current.receive(answer_to(other, current.request(100), 100), 100)


async def test_a_batch_counts_only_as_a_whole() -> None:
    bench = Bench()
    entries = [bench.write(key=key)[0] for key in "ab"]
    push(bench.members[0], bench.members[1], tuple(entries[:1]))
    bench.reports(1)
    with pytest.raises(DurabilityTimeout):
        await spread(bench, 2, dots_of(entries), 0)


async def test_more_members_than_there_are_and_more_writers_than_the_bound_are_refused_beforehand() -> None:
    bench = Bench(limits=replace(LIMITS, waiting_spreads_max=1))
    with pytest.raises(DurabilityImpossible, match="there are 3"):
        bench.coverage.spread(4)
    with bench.coverage.spread(3):
        assert bench.coverage.hurried
        with pytest.raises(TooManyWaiting):
            bench.coverage.spread(2)
    assert not bench.coverage.hurried


async def test_all_cannot_be_asked_for_where_nobody_knows_who_all_are() -> None:
    bench = Bench()
    bench.members[0].replica.membership = Membership("m0", CLUSTER, None, ("m1",), discovers=True)
    with pytest.raises(DurabilityImpossible, match="DNS"):
        bench.coverage.spread(None)
    with pytest.raises(DurabilityImpossible, match="there are 2"):
        bench.coverage.spread(3)
    bench.coverage.spread(2)


async def test_a_lone_member_is_all_there_is() -> None:
    bench = Bench(size=1)
    _, dots = bench.write()
    assert await spread(bench, None, dots, 0) == ("m0",)
    with pytest.raises(DurabilityImpossible):
        bench.coverage.spread(2)


async def test_a_late_write_is_told_who_has_it_and_that_it_stays() -> None:
    bench = Bench()
    entry, dots = bench.write()
    push(bench.members[0], bench.members[2], (entry,))
    bench.reports(2)
    with pytest.raises(DurabilityTimeout, match="stays") as refused:
        await spread(bench, 3, dots, 0)
    assert refused.value.problem()["durable_on"] == ["m0", "m2"]
    assert refused.value.session == f"{entry.origin}.{entry.seq}"
    assert bench.coverage.waiting_spreads == 0


async def test_neither_strangers_nor_crate_nodes_nor_two_names_of_one_member_count() -> None:
    bench = Bench(aliases={"m1": "crate-2", "m2": "m0"})
    entry, dots = bench.write()
    for member in bench.members[1:]:
        push(bench.members[0], member, (entry,))
    bench.members[0].configure_crates("c0")
    exchange.hear_report(bench.members[0].replica, as_crate(wire(exchange.report(bench.members[1].replica, 100))), 100)
    bench.coverage.heard("crate-2")
    bench.reports(2)  # it goes by m2, which no member of the configuration calls itself
    with pytest.raises(DurabilityTimeout) as refused:
        await spread(bench, 2, dots, 0)
    assert refused.value.durable_on == ("m0",)


async def test_a_process_that_came_back_without_the_write_counts_no_more() -> None:
    bench = Bench()
    entry, dots = bench.write()
    push(bench.members[0], bench.members[1], (entry,))
    bench.reports(1)
    write = await waiting(spread(bench, 3, dots))
    bench.members[1].restart(keep=0)
    bench.reports(1)
    push(bench.members[0], bench.members[2], (entry,))
    bench.reports(2)
    await turns()
    assert not write.done()
    push(bench.members[0], bench.members[1], (entry,))
    bench.reports(1)
    assert await write == ("m0", "m1", "m2")
