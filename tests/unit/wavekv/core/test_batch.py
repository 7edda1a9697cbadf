"""Batches: all or nothing, each write over those before it, and counters that come back to nothing."""

from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember, as_crate
from wavekv.core import exchange
from wavekv.core.condition import ABSENT, PRESENT, Condition
from wavekv.core.messages import Envelope
from wavekv.core.ops import Batch, Process
from wavekv.core.replica import Replica
from wavekv.core.writes import KEEP_EXPIRY, Delete, Put
from wavekv.errors import BatchTooLarge, CratePeers, LimitReached, PreconditionFailed, TooManyWaiting


def alone(**limits: int) -> MemoryMember:
    return MemoryMember(0, ("m0",), replace(LIMITS, **limits))


def counters(replica: Replica) -> tuple[int, int, int, int]:
    return replica.waiting, replica._waiting.size_bytes, replica._staging.keys, replica._staging.size_bytes


def at_rest(member: MemoryMember) -> bool:
    store = member.store
    return counters(member.replica) == (0, 0, len(store.entries), store.size_bytes)


def test_a_batch_is_one_record_with_rising_stamps_and_sequences() -> None:
    member = alone()
    member.replica.batch([Put("a", b"1"), Put("a", b"2"), Put("b", b"3"), Delete("a")], 100)
    member.commit()
    assert [type(op) for op in member.log[-2:]] == [Process, Batch]
    batch = member.log[-1]
    assert isinstance(batch, Batch)
    entries = [op.entry for op in batch.ops]  # type: ignore[union-attr]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert [entry.timestamp for entry in entries] == [100, 101, 100, 102]
    assert member.store.entries["a"].value is None
    assert member.value("b") == b"3"
    assert at_rest(member)


def test_a_batch_that_comes_to_nothing_stages_nothing() -> None:
    member = alone()
    before = list(member.log)
    assert member.replica.batch([], 100).writes == []
    staged = member.replica.batch([Delete("a"), Delete("b")], 100)
    assert staged.writes == [None, None]
    assert staged.ticket == member.replica.durable_ticket
    member.commit()
    assert member.log == before
    assert at_rest(member)


def test_conditions_look_at_earlier_operations_of_the_same_batch() -> None:
    member = alone()
    staged = member.replica.batch(
        [Put("a", b"1", condition=ABSENT), Put("a", b"2", condition=PRESENT), Delete("a", PRESENT), Put("a", b"3")], 100
    )
    created = [one is not None and one.created for one in staged.writes]
    assert created == [True, False, False, True]
    member.commit()
    assert member.value("a") == b"3"


def test_a_delete_behind_a_delete_of_the_same_batch_finds_nothing() -> None:
    member = alone()
    member.put("a", b"1", 100)
    staged = member.replica.batch([Delete("a"), Delete("a"), Put("b", b""), Delete("b")], 100)
    assert [one is None for one in staged.writes] == [False, True, False, False]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_condition_that_fails_refuses_all_of_it_and_names_its_place(place: int) -> None:
    member = alone()
    there = member.put("c", b"1", 100)
    before = (counters(member.replica), member.replica.last_ticket, member.replica.ready())
    writes = [Put("a", b""), Delete("c"), Put("b", b"")]
    writes.insert(place, Put("d", b"", condition=PRESENT))
    with pytest.raises(PreconditionFailed) as refused:
        member.replica.batch(writes, 100)
    assert (refused.value.operation, refused.value.etag) == (place, None)
    assert (counters(member.replica), member.replica.last_ticket, member.replica.ready()) == before
    assert member.store.entries["c"] == there


def test_a_condition_that_an_earlier_operation_broke_names_the_tag_that_stays_there() -> None:
    member = alone()
    there = member.put("k", b"1", 100)
    with pytest.raises(PreconditionFailed) as refused:
        member.replica.batch([Put("k", b"2"), Put("k", b"3", condition=Condition(match=(there.etag,)))], 500)
    assert refused.value.etag == there.etag
    with pytest.raises(PreconditionFailed) as refused:
        member.replica.batch([Put("new", b"2"), Put("new", b"3", condition=ABSENT)], 500)
    assert refused.value.etag is None
    assert "500.0.0" not in refused.value.detail


def test_a_batch_over_staged_writes_sees_them() -> None:
    member = alone()
    staged = member.replica.put("k", b"1", 100)
    with pytest.raises(PreconditionFailed) as refused:
        member.replica.batch([Put("k", b"2", condition=ABSENT)], 100)
    assert refused.value.etag == staged.entry.etag
    batch = member.replica.batch([Put("k", b"2", condition=Condition(match=(staged.entry.etag,)))], 100)
    assert batch.writes[0] is not None
    assert batch.writes[0].previous == staged.entry


def test_what_a_write_of_a_batch_replaces_is_a_true_entry() -> None:
    member = alone()
    first, second = member.replica.batch([Put("k", b"1"), Put("k", b"2")], 100).writes
    assert first is not None
    assert second is not None
    assert (first.previous, second.previous) == (None, first.entry)


def test_keeping_the_expiry_takes_that_of_an_earlier_operation_and_of_nothing_else() -> None:
    member = alone()
    member.replica.batch([Put("k", b"1", 900), Put("k", b"2", KEEP_EXPIRY), Put("new", b"", KEEP_EXPIRY)], 100)
    member.replica.batch([Put("gone", b"1", 900), Delete("gone"), Put("gone", b"2", KEEP_EXPIRY)], 100)
    member.commit()
    found = {key: entry.expires_at for key, entry in member.store.entries.items()}
    assert found == {"k": 900, "new": None, "gone": None}
    member.replica.put("k", b"3", 900, expires_at=KEEP_EXPIRY)
    member.commit()
    assert member.store.entries["k"].expires_at is None, "an expired value has no expiry to keep"


@pytest.mark.parametrize(
    ("writes", "fits"),
    [
        ([Put("k", b"")] * 3, True),
        ([Put("k", b"")] * 4, False),
        ([Put("é", b"x" * 8)], True),
        ([Put("é", b"x" * 9)], False),
        ([Put("k", b"x" * 8), Delete("d")], True),
        ([Put("k", b"x" * 8), Delete("dd")], False),
    ],
)
def test_operations_and_bytes_of_a_batch_are_bounded_exactly(writes: list[Put | Delete], fits: bool) -> None:
    member = alone(batch_operations_max=3, batch_bytes_max=10)
    if fits:
        member.replica.batch(writes, 100)
    else:
        with pytest.raises(BatchTooLarge):
            member.replica.batch(writes, 100)
        assert counters(member.replica) == (0, 0, 0, 0)


def test_room_is_counted_over_the_operations_before_and_each_key_once() -> None:
    member = alone(entries_max=10)
    with pytest.raises(LimitReached):
        member.replica.batch([Put(f"k{number}", b"") for number in range(10)], 100)
    member.replica.batch([Put(f"k{number % 9}", b"") for number in range(20)], 100)
    with pytest.raises(LimitReached):
        member.replica.batch([Put("k0", b""), Put("k9", b"")], 100)
    member.commit()
    assert at_rest(member)


def test_bytes_that_a_batch_frees_first_may_be_used_by_it() -> None:
    member = alone(bytes_max=100)
    member.put("a", b"x" * 80, 100)
    with pytest.raises(LimitReached):
        member.replica.batch([Put("b", b"x" * 80), Delete("a")], 100)
    member.replica.batch([Delete("a"), Put("b", b"x" * 80)], 100)
    member.commit()
    assert at_rest(member)
    with pytest.raises(LimitReached):
        member.replica.batch([Put("b", b"x" * 88), Put("b", b"x" * 90)], 100)


def test_a_batch_waits_whole_for_the_bound_on_waiting_writes() -> None:
    member = alone(waiting_writes_max=3)
    member.replica.put("a", b"", 100)
    with pytest.raises(TooManyWaiting):
        member.replica.batch([Put("b", b"")] * 3, 100)
    member.replica.batch([Put("b", b"")] * 2, 100)
    assert member.replica.waiting == 3
    with pytest.raises(TooManyWaiting):
        member.replica.delete("a", 100)
    member.commit()
    assert at_rest(member)


def test_what_waits_is_counted_over_two_groups() -> None:
    member = alone()
    member.replica.batch([Put("a", b"12"), Put("a", b"3"), Put("b", b"")], 100)
    first = member.replica.ready()
    assert first is not None
    member.replica.put("a", b"4567", 100)
    assert counters(member.replica)[:2] == (4, 7)
    member.replica.advance(first)
    assert counters(member.replica)[:2] == (1, 4)
    member.commit()
    assert at_rest(member)


def test_an_entry_that_claims_to_be_mine_does_not_upset_what_waits() -> None:
    member = alone()
    mine = member.put("k", b"1", 100)
    member.replica.merge([mine._replace(timestamp=500, value=b"forged")], 10_000)
    member.commit()
    assert at_rest(member)


def test_an_abandoned_batch_leaves_nothing_and_the_next_takes_its_sequences() -> None:
    member = alone()
    member.put("a", b"1", 100)
    member.replica.batch([Put("a", b"22"), Put("b", b"3"), Delete("a")], 100)
    assert member.replica.ready() is not None
    member.replica.batch([Put("c", b"4")], 100)
    member.replica.abandon()
    assert at_rest(member)
    assert member.replica.durable_ticket == member.replica.last_ticket
    again = member.replica.batch([Put("a", b"5", condition=PRESENT), Put("b", b"6", condition=ABSENT)], 100)
    member.commit()
    assert [one.entry.seq for one in again.writes if one is not None] == [2, 3]
    assert member.store.context.acks == {1: 3}
    assert at_rest(member)


def test_a_batch_with_an_expiry_is_refused_whole_while_a_crate_node_speaks() -> None:
    member = alone()
    member.configure_crates("c0")
    crate = as_crate(Envelope(sender_id=9, sender_uuid=bytes(16)))
    exchange.receive_request(member.replica, crate, 100)
    with pytest.raises(CratePeers):
        member.replica.batch([Put("a", b""), Put("b", b"", 900)], 100)
    assert counters(member.replica) == (0, 0, 0, 0)
    member.replica.batch([Put("a", b""), Put("b", b"", KEEP_EXPIRY)], 100)
