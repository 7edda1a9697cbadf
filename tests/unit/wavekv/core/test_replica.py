"""Local writes and merges: what is staged, what is shown when, and what is refused."""

import traceback
from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember, cluster
from wavekv.core.membership import Epoch
from wavekv.core.ops import Cover, Process, Set
from wavekv.core.types import Entry
from wavekv.errors import KeyNotFound, LimitReached, Starting, TooManyWaiting


def alone(**limits: int) -> MemoryMember:
    return MemoryMember(0, ("m0",), replace(LIMITS, **limits))


def entry(key: str, value: bytes | None, timestamp: int, origin: int = 9, seq: int = 1) -> Entry:
    return Entry(key, value, timestamp, origin, seq)


def test_a_staged_write_is_invisible_until_its_group_is_durable() -> None:
    member = alone()
    staged = member.replica.put("k", b"v", 100)
    group = member.replica.ready()
    assert group is not None
    assert member.store.get("k", 100) is None
    assert member.replica.durable_ticket < staged.ticket
    member.replica.advance(group)
    assert member.value("k") == b"v"
    assert member.replica.durable_ticket >= staged.ticket


def test_one_group_is_out_at_a_time_and_the_next_holds_what_came_meanwhile() -> None:
    member = alone()
    member.replica.put("a", b"1", 100)
    first = member.replica.ready()
    assert first is not None
    member.replica.put("b", b"2", 100)
    assert member.replica.ready() is None
    member.replica.advance(first)
    second = member.replica.ready()
    assert second is not None
    assert [op.entry.key for op in second.ops if isinstance(op, Set)] == ["b"]


def test_writes_of_one_key_in_one_group_see_each_other() -> None:
    member = alone()
    first = member.replica.put("k", b"1", 100)
    second = member.replica.put("k", b"2", 100)
    assert (first.created, second.created) == (True, False)
    assert second.entry.timestamp == first.entry.timestamp + 1
    assert second.entry.seq == first.entry.seq + 1
    assert member.replica.delete("k", 100).created is False
    with pytest.raises(KeyNotFound):
        member.replica.delete("k", 100)
    member.commit()
    assert member.value("k") is None


def test_a_clock_that_runs_backwards_still_stamps_above_what_is_held() -> None:
    member = alone()
    first = member.put("k", b"1", 5000)
    second = member.put("k", b"2", 100)
    assert second.timestamp == first.timestamp + 1
    assert member.value("k") == b"2"


def test_an_absent_key_is_stamped_above_the_floor() -> None:
    member = alone()
    member.replica.adopt(member.store.context.copy(), 7000)
    assert member.put("new", b"v", 100).timestamp == 7001


def test_deleting_an_absent_key_leaves_no_trace() -> None:
    member = alone()
    before = list(member.log)
    with pytest.raises(KeyNotFound):
        member.replica.delete("nothing", 100)
    member.commit()
    assert member.log == before


def test_the_first_process_writes_under_the_node_id_and_later_ones_under_fresh_origins() -> None:
    member = alone()
    origins = {member.put("k", b"1", 100).origin}
    assert origins == {1}
    for _ in range(5):
        member.restart()
        origins.add(member.put("k", b"x", 100).origin)
    assert len(origins) == 6


def test_a_process_that_writes_nothing_adds_no_origin() -> None:
    member = alone()
    member.restart()
    assert [op for op in member.log if isinstance(op, Process)] == [Process(1, 0, False), Process(2, 0, False)]


def test_sequences_have_no_gap_after_an_abandoned_group() -> None:
    member = alone()
    member.put("a", b"1", 100)
    lost = member.replica.put("b", b"2", 100)
    assert member.replica.ready() is not None
    member.replica.put("c", b"3", 100)
    member.replica.abandon()
    assert member.replica.waiting == 0
    again = member.put("d", b"4", 100)
    assert again.seq == lost.entry.seq == 2
    assert member.value("b") is None
    assert member.store.context.acks == {1: 2}


def test_an_abandoned_first_group_leaves_the_process_to_be_logged_again() -> None:
    member = alone()
    log_before = len(member.log)
    member.restart(keep=0)
    assert isinstance(member.log[0], Process)
    member.replica.put("a", b"1", 100)
    member.replica.ready()
    member.replica.abandon()
    written = member.put("a", b"1", 100)
    origins = [op.origin for op in member.log if isinstance(op, Process)]
    assert written.origin == origins[-1]
    assert log_before >= 1


def test_writes_wait_until_the_member_has_joined() -> None:
    member = alone()
    member.replica.writable = Starting("not yet")
    with pytest.raises(Starting):
        member.replica.put("k", b"v", 100)


def test_the_write_above_the_waiting_bound_is_refused_and_stages_nothing() -> None:
    member = alone(waiting_writes_max=2)
    member.replica.put("a", b"", 100)
    member.replica.put("b", b"", 100)
    with pytest.raises(TooManyWaiting):
        member.replica.put("c", b"", 100)
    member.commit()
    assert member.replica.waiting == 0
    member.put("c", b"", 100)
    assert list(member.store.entries) == ["a", "b", "c"]


def test_local_writes_stop_at_nine_tenths_of_the_entries_and_deletes_go_on() -> None:
    member = alone(entries_max=10)
    for index in range(9):
        member.put(f"k{index}", b"", 100)
    with pytest.raises(LimitReached):
        member.replica.put("k9", b"", 100)
    member.put("k0", b"overwriting is fine", 100)
    member.delete("k1", 100)


def test_local_writes_stop_at_nine_tenths_of_the_bytes() -> None:
    member = alone(bytes_max=100)
    member.put("k", b"x" * 89, 100)
    with pytest.raises(LimitReached):
        member.replica.put("k", b"x" * 90, 101)
    member.put("k", b"x" * 88, 101)


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("key_too_large", entry("k" * 1025, b"v", 100)),
        ("value_too_large", entry("k", b"v" * (2**20 + 1), 100)),
        ("future_timestamp", entry("k", b"v", 10_000 + 300_001)),
    ],
)
def test_an_entry_over_a_wire_limit_is_refused_and_the_rest_is_taken(code: str, refused: Entry) -> None:
    member = alone()
    merged = member.replica.merge([refused, entry("ok", b"v", 100, seq=2)], 10_000)
    member.commit()
    assert merged.refused == {code: 1}
    assert merged.stored == 1
    assert set(member.store.entries) == {"ok"}
    assert not member.store.context.covers(9, 1)


def test_entries_exactly_at_the_wire_limits_are_taken() -> None:
    member = alone()
    at_limit = [
        entry("k" * 1024, b"v", 100),
        entry("b", b"v" * 2**20, 100, seq=2),
        entry("c", b"v", 310_000, seq=3),
    ]
    assert member.replica.merge(at_limit, 10_000).refused == {}
    member.commit()
    assert len(member.store.entries) == 3


def test_a_claimed_sequence_of_mine_that_was_never_issued_is_refused() -> None:
    member = alone()
    member.put("k", b"v", 100)
    merged = member.replica.merge([entry("x", b"forged", 200, origin=1, seq=5)], 10_000)
    member.commit()
    assert merged.refused == {"claimed_sequence": 1}
    assert member.put("l", b"v", 100).seq == 2
    member.replica.adopt(type(member.store.context)({1: 99, 4: 2}), 0)
    member.commit()
    assert member.store.context.acks == {1: 2, 4: 2}


def test_a_loser_leaves_its_dot_and_nothing_else() -> None:
    member = alone()
    member.put("k", b"newer", 500)
    member.replica.merge([entry("k", b"older", 100, seq=1)], 10_000)
    member.commit()
    assert member.value("k") == b"newer"
    assert member.log[-1] == Cover(9, 1, 1)
    assert member.store.context.covers(9, 1)


def test_a_late_duplicate_of_a_covered_and_removed_entry_is_ignored() -> None:
    member = alone()
    member.replica.adopt(type(member.store.context)({9: 1}), 0)
    member.commit()
    member.replica.merge([entry("k", b"back from the dead", 100)], 10_000)
    member.commit()
    assert "k" not in member.store.entries


def test_coverage_staged_but_not_durable_already_guards_against_duplicates() -> None:
    member = alone()
    member.replica.adopt(type(member.store.context)({9: 1}), 0)
    assert member.replica.merge([entry("k", b"late", 100)], 10_000).stored == 0


def test_pushed_entries_that_would_exceed_the_dot_bound_are_refused_and_exchanged_ones_are_not() -> None:
    member = alone(dots_max=1)
    gaps = [entry("a", b"", 100, seq=3), entry("b", b"", 100, seq=6), entry("c", b"", 100, seq=4)]
    assert member.replica.merge(gaps, 10_000, pushed=True).refused == {"too_many_dots": 1}
    assert member.replica.merge([gaps[1]], 10_000).refused == {}


def test_what_a_restart_replays_is_what_the_process_showed() -> None:
    first, second = cluster(2)
    for index in range(40):
        first.put(f"k{index % 7}", bytes([index]), 100 + index)
    first.delete("k3", 900)
    second.put("k1", b"other", 50)
    first.replica.merge(list(second.store.entries.values()), 10_000)
    first.commit()
    before = (dict(first.store.entries), first.store.context.copy(), first.store.buckets.snapshot(), first.store.values)
    first.restart()
    after = (dict(first.store.entries), first.store.context.copy(), first.store.buckets.snapshot(), first.store.values)
    assert after == before


def test_bytes_that_wait_for_the_disk_are_bounded() -> None:
    member = alone(waiting_bytes_max=10)
    member.replica.put("a", b"x" * 10, 100)
    with pytest.raises(TooManyWaiting, match="bytes"):
        member.replica.put("a", b"", 100)
    member.commit()
    member.put("a", b"", 100)


def test_a_sequence_of_zero_is_refused() -> None:
    member = alone()
    assert member.replica.merge([entry("k", b"v", 100, seq=0)], 10_000).refused == {"bad_sequence": 1}


def test_healing_that_never_reached_the_disk_has_not_ended() -> None:
    member = cluster(2)[0]
    member.replica.healed_with.add("m1")
    member.replica.end_healing()
    assert member.replica.ready() is not None
    member.replica.abandon()
    assert member.replica.healing
    assert member.replica.healed_with == set()


def readmitted() -> MemoryMember:
    """A member that serves, and has just learnt that it was removed and admitted again."""
    names = ("m0", "m1")
    member = MemoryMember(0, names, epoch=Epoch(1, names))
    member.replica.healing = False
    member.replica.membership.healed()
    member.put("k", b"1", 100)
    member.replica.membership.learn(Epoch(2, ("m1",)))
    member.replica.membership.learn(Epoch(3, names))
    return member


def test_a_member_admitted_again_heals_once_and_writes_that_were_under_way_still_count() -> None:
    member = readmitted()
    member.replica.put("under-way", b"2", 100)
    member.replica.heed_admission()
    assert member.replica.healing
    member.commit()
    assert member.replica.waiting == 0
    assert member.store.process == Process(member.inc, 0, True)
    member.replica.end_healing()
    member.replica.heed_admission()
    member.commit()
    assert not member.replica.healing, "one admission is heeded once"


def test_healing_that_began_but_never_reached_the_disk_begins_again() -> None:
    member = readmitted()
    member.replica.heed_admission()
    assert member.replica.ready() is not None
    member.replica.abandon()
    assert member.replica.healing
    member.commit()
    assert member.store.process.healing


def test_a_refusal_that_is_raised_often_gathers_no_frames() -> None:
    member = alone()
    member.replica.writable = refusal = Starting("not yet")
    for _ in range(3):
        with pytest.raises(Starting):
            member.replica.put("k", b"v", 100)
    assert len(list(traceback.walk_tb(refusal.__traceback__))) < 5


def test_a_smaller_limit_for_clients_refuses_nothing_that_another_member_took() -> None:
    member = alone(key_bytes_max=1, value_bytes_max=1)
    merged = member.replica.merge([entry("k" * 1024, b"v" * 2**20, 100)], 100)
    assert (merged.stored, merged.refused.total()) == (1, 0)
