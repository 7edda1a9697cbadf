"""A message is merged in slices: what happens in between is seen, and adoption waits for the last one (R3)."""

from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember, answer_to, cluster, wire
from tests.fakes.hostile_messages import colliding_origins
from wavekv.core import exchange
from wavekv.core.block import Block
from wavekv.core.codec.message_bounds import MessageBounds
from wavekv.core.membership import Epoch
from wavekv.core.merging import merge
from wavekv.core.messages import Envelope
from wavekv.core.packed import pack
from wavekv.core.reports import Reports
from wavekv.core.scatter import UNCHECKED
from wavekv.core.steps import Slices
from wavekv.core.types import I64_MIN, Entry
from wavekv.errors import BadEnvelope, NotAMember, NotWritten, StaleProcess

NOW = 10_000
SLICED = replace(LIMITS, merge_slice_entries=4)


def theirs(count: int, origin: int = 77) -> tuple[Entry, ...]:
    return tuple(Entry(f"k{seq}", b"v", 100, origin, seq) for seq in range(1, count + 1))


def request(sender: MemoryMember, entries: tuple[Entry, ...]) -> Envelope:
    """Return an adoptable request: what it covers beside its entries shows whether it was adopted."""
    return wire(exchange.envelope(sender.replica, NOW, entries=entries, acks={77: 10, 88: 5}, since=0, floor=0))


def pair() -> list[MemoryMember]:
    return cluster(2, SLICED, healing=False)


def drained(slices: Slices[object]) -> int:
    """Run to the end; return how many turns others had in between."""
    return sum(1 for _ in slices)


@pytest.mark.parametrize(("entries", "turns"), [(0, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
def test_others_have_a_turn_after_each_slice(entries: int, turns: int) -> None:
    a, b = pair()
    assert drained(exchange.receive_request_in_slices(a.replica, request(b, theirs(entries)), NOW)) == turns
    assert a.replica.covered.acks[88] == 5


@pytest.mark.parametrize(("more", "taken"), [(0, True), (1, False)])
def test_a_push_of_more_than_a_page_is_refused_whole(more: int, taken: bool) -> None:
    a, b = pair()
    page = MessageBounds.of(SLICED).page
    message = replace(request(b, theirs(page + more)), push_only=True)
    slices = merge(a.replica, message, NOW, pushed=True)
    if taken:
        drained(slices)
    else:
        with pytest.raises(BadEnvelope, match=f"it may have {page}"):
            drained(slices)
    a.commit()
    assert len(a.store.entries) == (page if taken else 0)


@pytest.mark.parametrize("chosen", [False, True])
def test_a_block_of_origins_chosen_to_collide_is_refused(chosen: bool) -> None:
    a, b = cluster(2, replace(SLICED, new_origins_max=65_536), healing=False)
    count, known = 3000, UNCHECKED - 2000
    a.replica.adopt(type(a.store.context)(dict.fromkeys(range(2**31, 2**31 + known), 1)), 0, NOW, sender="m1")
    origins = sorted(colliding_origins(count)) if chosen else range(1000, 1000 + count)
    entries = [Entry(f"k{origin}", b"v", 100, origin, 1) for origin in origins]
    block = Block([entry.key for entry in entries], [pack(entry) for entry in entries])
    slices = merge(a.replica, replace(request(b, ()), block=block), NOW)
    if chosen:
        with pytest.raises(BadEnvelope, match="chosen so that"):
            drained(slices)
    else:
        drained(slices)
    a.commit()
    assert len(a.store.entries) == (0 if chosen else count)


def test_nothing_is_adopted_before_the_last_slice() -> None:
    a, b = pair()
    slices = exchange.receive_request_in_slices(a.replica, request(b, theirs(9)), NOW)
    for merged in (4, 8):
        next(slices)
        assert a.replica.covered.acks[77] == merged
        assert not a.replica.covered.knows(88)
    drained(slices)
    assert (a.replica.covered.acks[77], a.replica.covered.acks[88]) == (10, 5)


def test_what_was_lost_to_a_full_disk_in_between_is_never_adopted() -> None:
    a, b = pair()
    slices = exchange.receive_request_in_slices(a.replica, request(b, theirs(9)), NOW)
    next(slices)
    a.replica.abandon()
    with pytest.raises(NotWritten):
        drained(slices)
    a.commit()
    assert not a.store.context.knows(88)
    assert a.store.context.acks.get(77, 0) == 0


def test_an_answer_of_which_a_part_was_lost_is_never_adopted() -> None:
    a, b = pair()
    b.replica.merge(theirs(9), NOW)
    b.commit()
    current = exchange.Round(a.replica, "m1", "m1")
    slices = current.receive_in_slices(
        replace(answer_to(b, current.request(NOW), NOW), block=None, entries=theirs(9)), NOW
    )
    next(slices)
    a.replica.abandon()
    with pytest.raises(NotWritten):
        drained(slices)
    a.commit()
    assert a.store.context.acks.get(77, 0) == 0


def test_a_sender_removed_in_between_is_refused_and_not_adopted() -> None:
    founders = Epoch(1, ("m0", "m1"), bootstrap=True)
    a, b = (MemoryMember(index, ("m0", "m1"), SLICED, founders) for index in range(2))
    slices = exchange.receive_request_in_slices(a.replica, request(b, theirs(9)), NOW)
    next(slices)
    a.replica.membership.learn(Epoch(2, ("m0",)))
    with pytest.raises(NotAMember):
        drained(slices)
    assert not a.replica.covered.knows(88)


def test_a_process_that_a_newer_one_replaced_in_between_is_refused_and_not_adopted() -> None:
    a, b = pair()
    slices = exchange.receive_request_in_slices(a.replica, request(b, theirs(9)), NOW)
    next(slices)
    a.replica.reports.hear(replace(request(b, ()), inc=b.inc + 1, acks={}), NOW)
    with pytest.raises(StaleProcess):
        drained(slices)
    assert not a.replica.covered.knows(88)


def test_who_begins_to_heal_in_between_does_not_adopt() -> None:
    a, b = pair()
    slices = exchange.receive_request_in_slices(a.replica, request(b, theirs(9)), NOW)
    next(slices)
    a.replica.healing = True
    drained(slices)
    assert a.replica.covered.acks[77] == 9
    assert not a.replica.covered.knows(88)


def test_a_local_write_between_two_slices_stands_over_what_comes_later() -> None:
    a, b = pair()
    slices = exchange.receive_push_in_slices(a.replica, replace(request(b, theirs(9)), push_only=True), NOW)
    next(slices)
    a.replica.put("k9", b"mine", NOW)
    drained(slices)
    a.commit()
    assert (a.value("k9", NOW), a.value("k8", NOW)) == (b"mine", b"v")
    assert a.store.context.acks[77] == 9


def test_a_large_group_is_shown_a_slice_a_turn_and_durable_at_its_end() -> None:
    a, _ = pair()
    ticket = a.replica.merge(theirs(9), NOW).ticket
    group = a.replica.ready()
    assert group is not None
    slices = a.replica.advance_in_slices(group)
    for shown in (4, 8):
        next(slices)
        assert len(a.store.packed) == shown
        assert a.replica.ready() is None
        assert a.replica.durable_ticket < ticket
    drained(slices)
    assert (len(a.store.packed), a.replica.durable_ticket) == (9, ticket)


def test_pages_that_never_end_are_refused() -> None:
    a, b = cluster(2, replace(LIMITS, entries_max=4), healing=False)
    current = exchange.Round(a.replica, "m1", "m1")
    answer = replace(answer_to(b, current.request(NOW), NOW), entries=theirs(4))
    current.receive(answer, NOW)
    current.receive(answer, NOW)
    with pytest.raises(BadEnvelope, match="one round"):
        current.receive(answer, NOW)


def test_who_covers_more_than_a_message_may_tell_tells_a_filter_and_no_report() -> None:
    a, b = cluster(2, replace(LIMITS, dots_max=2), healing=False)
    for member in (a, b):
        member.replica.merge([Entry(f"k{seq}", b"v", 100, 77, seq) for seq in (2, 4, 6)], NOW)
        member.commit()
    asked = wire(exchange.Round(a.replica, "m1", "m1").request(NOW))
    assert (asked.acks, asked.dots, asked.floor) == ({}, {}, None)
    assert asked.filter_dots == {77: ((2, 2), (4, 4))}
    exchange.receive_request(b.replica, asked, NOW)
    answer = exchange.answer(b.replica, asked, NOW)
    assert [entry.key for entry in answer.carried()] == ["k6"]
    assert (answer.acks, answer.dots, answer.floor) == ({}, {}, None)
    report = b.replica.reports.of("m0")
    assert report is not None
    assert not report.context.covers(77, 2)


def test_a_sequence_of_ours_that_we_never_issued_is_not_adopted_and_its_claimant_named() -> None:
    a, b = pair()
    own = a.put("mine", b"v", NOW)
    claim = wire(exchange.envelope(b.replica, NOW, acks={own.origin: own.seq + 9, 88: 5}, since=0, floor=0))
    exchange.receive_request(a.replica, claim, NOW)
    assert (a.replica.covered.acks[own.origin], a.replica.covered.acks[88]) == (own.seq, 5)
    assert a.replica.refused["claimed_sequence"] == 1
    assert a.replica.last_refusal is not None
    assert (a.replica.last_refusal.sender, a.replica.last_refusal.key) == ("m1", "")
    assert a.put("next", b"v", NOW).seq == own.seq + 1


def test_the_names_of_staged_dots_have_seeded_hashes() -> None:
    a, _ = pair()
    a.replica.merge(theirs(3), NOW)
    assert {type(name) for name in a.replica._staging._dots} == {bytes}


def test_a_report_that_grows_beyond_what_a_context_may_have_begins_anew() -> None:
    a, b = pair()
    reports = Reports(a.replica.identity, replace(LIMITS, origins_max=4, dots_max=2))
    said = exchange.report(b.replica, NOW)
    for first, known in ((0, 3), (3, 6), (6, 3), (9, 6)):
        reports.hear(replace(said, acks=dict.fromkeys(range(first, first + 3), 1)), NOW)
        report = reports.of("m1")
        assert report is not None
        assert len(report.context.acks) == known


def test_who_covers_is_never_shown_a_part_of_an_adopted_context() -> None:
    a, _ = cluster(2, replace(LIMITS, merge_slice_entries=1), healing=False)
    a.replica.merge(theirs(2), NOW)
    a.replica.adopt(type(a.store.context)(dict.fromkeys(range(100, 110), 1), {77: ((5, 6),)}), 50, sender="m1")
    a.replica.merge([Entry("late", b"v", 100, 77, 9)], NOW)
    group = a.replica.ready()
    assert group is not None
    seen = []
    for _ in a.replica.advance_in_slices(group):
        context = a.store.context
        seen.append((len(context.acks), context.range_count, a.store.floor))
    assert seen == [(1, 0, I64_MIN), (11, 1, 50)]


def test_reports_are_bounded_together_and_the_one_heard_longest_ago_goes() -> None:
    a, b = pair()
    reports = Reports(a.replica.identity, replace(LIMITS, reported_items_max=10))
    said = exchange.report(b.replica, NOW)
    for name in ("m1", "m2", "m3"):
        reports.hear(replace(said, name=name, sender_id=int(name[1]), acks=dict.fromkeys(range(4), 1)), NOW)
    assert list(reports.heard()) == ["m2", "m3"]
    reports.hear(replace(said, name="m2", sender_id=2, acks=dict.fromkeys(range(11), 1)), NOW)
    assert list(reports.heard()) == ["m2"]
    assert a.replica.limits.reported_items_max > 10


@pytest.mark.parametrize(("size", "turns"), [(8 << 13, 2), ((8 << 13) - 1, 1)])
def test_what_is_shown_in_a_turn_counts_long_values_by_their_bytes(size: int, turns: int) -> None:
    a, _ = cluster(2, replace(LIMITS, merge_slice_entries=9), healing=False)
    entries = [Entry(f"k{seq}", bytes(size), 100, 77, seq) for seq in (1, 2, 3)]
    a.replica.merge(entries, NOW)
    group = a.replica.ready()
    assert group is not None
    assert drained(a.replica.advance_in_slices(group)) == turns
    assert len(a.store.entries) == 3
