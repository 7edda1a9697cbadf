"""What other members may add to a context, and what two contents of one stamp come to."""

from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember
from wavekv.core import collection
from wavekv.core.adoption import CARRIED_RANGES_MAX
from wavekv.core.newcomers import HOUR_MS
from wavekv.core.steps import Refusal
from wavekv.core.types import Entry
from wavekv.errors import BadEnvelope


def alone(**limits: int) -> MemoryMember:
    return MemoryMember(0, ("m0",), replace(LIMITS, **limits))


def entry(key: str, value: bytes | None, timestamp: int, origin: int = 9, seq: int = 1) -> Entry:
    return Entry(key, value, timestamp, origin, seq)


def test_a_push_takes_no_more_than_it_can_stand_for_and_no_ranges_above_the_bound() -> None:
    member = alone(dots_max=2)
    ends = [(5, 2**64 - 1), *((6, seq) for seq in (2, 4, 6, 8))]
    member.replica.cover({5: ((1, 2**64 - 1),), 6: ((2, 2), (4, 4), (6, 6), (8, 8))}, ends, 100)
    member.commit()
    assert member.store.context.acks == {}
    assert member.store.context.dots() == {6: ((2, 2), (4, 4))}


def test_a_push_stands_for_no_range_that_ends_without_an_entry_of_it() -> None:
    member = alone()
    member.replica.cover({5: ((1, 9),), 6: ((1, 4),)}, [(6, 4), (5, 8)], 100)
    member.commit()
    assert member.store.context.acks == {6: 4}


def test_a_push_that_names_more_ranges_than_any_stands_for_is_refused() -> None:
    member = alone()
    ranges = tuple((3 * at + 2, 3 * at + 2) for at in range(CARRIED_RANGES_MAX + 1))
    member.replica.cover({5: ranges[1:]}, [], 100)
    with pytest.raises(BadEnvelope, match="17 ranges"):
        member.replica.cover({5: ranges}, [], 100)


def test_of_a_context_of_more_origins_than_the_bound_the_last_are_left_out_and_counted_with_their_sender() -> None:
    member = alone(origins_max=2)
    context = type(member.store.context)
    assert member.replica.adopt(context({5: 1, 6: 1, 7: 1}), 0, 100, sender="m1") is not None
    assert member.replica.adopt(context({5: 9}), 0, 100) is not None
    member.commit()
    assert member.store.context.acks == {5: 9, 6: 1}
    assert member.replica.refused == {"too_many_origins": 1}
    assert member.replica.last_refusal == Refusal("too_many_origins", "", 100, "m1", 100)


def test_a_part_of_the_room_is_for_origins_that_a_member_names_as_its_own() -> None:
    member = MemoryMember(0, ("m0", "m1"), replace(LIMITS, origins_max=8, origins_reserved=2))
    member.replica.end_healing()
    member.replica.vouching.named("m1", 77)
    invented = [entry(f"k{origin}", b"v", 100, origin) for origin in range(100, 107)]
    merged = member.replica.merge([*invented, entry("own", b"v", 100, 77)], 100, sender="m2", pushed=True)
    member.commit()
    assert merged.refused == {"too_many_origins": 1}
    assert member.value("own") == b"v"


@pytest.mark.parametrize(("owned", "most"), [(False, 3), (True, 2)])
def test_a_member_brings_so_many_new_origins_in_an_hour_and_no_more(owned: bool, most: int) -> None:
    member = MemoryMember(0, ("m0", "m1"), replace(LIMITS, new_origins_max=3, own_origins_max=2))
    member.replica.end_healing()

    def bring(origin: int, now_ms: int, sender: str = "m1") -> dict[str, int]:
        if owned:
            member.replica.vouching.named(sender, origin)
        return member.replica.merge([entry(f"k{origin}", b"v", now_ms, origin)], now_ms, sender=sender).refused

    for origin in range(most):
        assert bring(100 + origin, 1000) == {}
    assert bring(200, 1000) == {"too_many_new_origins": 1}
    assert bring(201, 1000, "m2") == {}, "another member's share is its own"
    assert bring(200, 1000 + HOUR_MS // most - 1) == {"too_many_new_origins": 1}
    assert bring(200, 1000 + HOUR_MS // most) == {}


def test_who_heals_takes_all_new_origins_of_an_answer_and_few_of_a_push() -> None:
    member = MemoryMember(0, ("m0", "m1"), replace(LIMITS, new_origins_max=2))
    assert member.replica.healing
    invented = [entry(f"k{origin}", b"v", 100, origin) for origin in range(100, 110)]
    assert member.replica.merge(invented[:5], 100, sender="m1").refused == {}
    assert member.replica.merge(invented[5:], 100, sender="m1", pushed=True).refused == {"too_many_new_origins": 3}


def test_a_context_of_more_ranges_than_the_bound_is_refused_whole_unless_it_closes_some() -> None:
    member = alone(dots_max=2)
    context = type(member.store.context)
    assert member.replica.adopt(context({}, {5: ((2, 2), (4, 4))}), 0, 100) is not None
    assert member.replica.adopt(context({}, {5: ((6, 6),)}), 0, 100) is None
    assert member.replica.adopt(context({5: 3}, {5: ((6, 6),)}), 0, 100) is not None
    member.commit()
    assert member.store.context.acks == {5: 4}
    assert member.store.context.dots() == {5: ((6, 6),)}
    assert member.replica.refused == {"too_many_dots": 1}


def test_a_log_that_is_over_a_bound_starts_and_what_it_covers_may_shrink() -> None:
    member = alone(dots_max=2)
    for seq in (2, 4, 6, 8):
        member.store.context.add(5, seq)
    member.replica.abandon()  # what is staged is made anew from the store, as at a start
    context = type(member.store.context)
    assert member.replica.adopt(context({6: 3}, {5: ((10, 10),)}), 0, 100) is None
    assert member.replica.adopt(context({5: 3}), 0, 100) is not None
    member.commit()
    assert (member.store.context.acks, member.store.context.range_count) == ({5: 4}, 2)


def test_ranges_of_ours_that_we_never_issued_are_left_out_and_the_rest_is_taken() -> None:
    member = alone()
    replica, context = member.replica, type(member.store.context)
    mine = member.put("k", b"v", 100).origin
    replica.adopt(context({5: 3}, {mine: ((900, 900),)}), 0, 100)
    replica.cover({mine: ((901, 901),), 6: ((1, 2),)}, [(mine, 901), (6, 2)], 100, sender="m1")
    member.commit()
    assert [member.store.context.covers(*dot) for dot in ((mine, 900), (mine, 901), (5, 3), (6, 2))] == [
        False, False, True, True
    ]  # fmt: skip
    assert replica.refused == {"claimed_sequence": 2}


def test_an_entry_of_an_origin_above_the_bound_is_refused() -> None:
    member = alone(origins_max=2)
    entries = [entry(key, b"v", 100, origin, seq) for key, origin, seq in (("a", 5, 1), ("b", 6, 7), ("c", 7, 1))]
    merged = member.replica.merge(entries, 100)
    assert (merged.stored, dict(merged.refused)) == (2, {"too_many_origins": 1})
    assert member.replica.merge([entry("d", b"v", 100, 6, 9)], 100).stored == 1


@pytest.mark.parametrize(("pushed", "taken"), [(True, 2), (False, 4)])
def test_pages_may_open_more_ranges_than_pushes_and_both_have_a_bound(pushed: bool, taken: int) -> None:
    member = alone(dots_max=2, fill_ranges_max=4)
    entries = [entry(f"k{seq}", b"v", 100, 5, seq) for seq in range(2, 14, 2)]
    merged = member.replica.merge(entries, 100, pushed=pushed)
    assert (merged.stored, dict(merged.refused)) == (taken, {"too_many_dots": 6 - taken})


@pytest.mark.parametrize("first", ["value", "tombstone"])
def test_two_contents_under_one_stamp_come_to_the_same_on_every_member_and_are_counted(first: str) -> None:
    member = alone()
    value, tombstone = entry("k", b"v", 100, 5, 1), entry("k", None, 100, 5, 1)
    for one in (value, tombstone) if first == "value" else (tombstone, value):
        member.replica.merge([one], 100, sender="m1")
        member.commit()
    assert member.store.entries["k"] == value
    assert (member.store.values, member.store.deletes()) == (1, 0)
    assert member.replica.refused == {"stamp_conflict": 1}
    assert member.replica.last_refusal is not None
    assert member.replica.last_refusal.sender == "m1"
    assert collection.collect(member.replica, 10**6, 100) == 0
    assert collection.pins(member.replica) == []
    member.commit()
    assert member.store.entries["k"] == value


def test_origins_are_counted_without_a_look_at_each_of_them() -> None:
    context = type(alone().store.context)({5: 1, 6: 1}, {6: ((3, 3),), 7: ((2, 2),)})
    assert context.origin_count() == len(context.acks) + len(context.ranged()) == 4
