"""Lists of what is held, and what a member drops by them (R6)."""

from dataclasses import replace

import pytest

from tests.fakes.cluster import (
    LIMITS,
    MemoryMember,
    answer_to,
    cluster,
    collect,
    contents,
    sync,
    wire,
)
from wavekv.config import Limits
from wavekv.core import exchange
from wavekv.core.messages import Envelope, Listed
from wavekv.core.repair import SUSPECT_MS, Range, list_range
from wavekv.core.types import Entry
from wavekv.errors import BadEnvelope

NOW = 10_000
ALL = 2**64 - 1


def begin(requester: MemoryMember, responder: MemoryMember) -> exchange.Round:
    name = responder.replica.identity.name
    return exchange.Round(requester.replica, name, name)


def step(current: exchange.Round, requester: MemoryMember, responder: MemoryMember, now_ms: int = NOW) -> Envelope:
    """Send one request, take its answer, and return the request."""
    request = current.request(now_ms)
    current.receive(answer_to(responder, request, now_ms), now_ms)
    requester.commit()
    return request


def test_a_write_of_this_process_is_not_dropped_because_a_peer_was_told_that_it_covers_it() -> None:
    """A hostile member claims the next write of m0 at m1, whose list then lacks it."""
    a, b = cluster(2, healing=False)
    first = a.put("first", b"1", 100)
    b.replica.adopt(type(b.store.context)({first.origin: first.seq + 1}), 0, sender="m0")
    b.commit()
    mine = a.put("mine", b"1", 100)
    assert mine.seq == first.seq + 1
    for now_ms in (NOW, NOW, NOW + SUSPECT_MS):
        current = begin(a, b)
        while not current.done:
            step(current, a, b, now_ms)
    assert current.repair is not None, "the same buckets differed for long enough"
    assert current.repair.result.alone_keys == ["first", "mine"]
    assert current.repair.result.dropped == 0
    assert a.value("mine", NOW) == b"1"


def forgotten(size: int = 2, limits: Limits = LIMITS) -> tuple[list[MemoryMember], int]:
    """Return members that deleted and forgot x, y and z, and the place in m0's log before it heard of the deletes."""
    members = cluster(size, limits, healing=False)
    a, b = members[0], members[1]
    for key in ("keep", "x", "y", "z"):
        b.put(key, b"1", 100)
    for other in (a, *members[2:]):
        sync(other, b)
    place = len(a.log)
    for key in ("x", "y", "z"):
        b.delete(key, 200)
    for _ in range(2):
        for one in members:
            for other in members:
                if one is not other:
                    sync(one, other)
    for member in members:
        collect(member, NOW)
        assert list(member.store.entries) == ["keep"]
    return members, place


def test_a_volume_rolled_back_to_before_a_forgotten_delete_drops_what_it_shows_before_it_covers_the_delete() -> None:
    (a, b), place = forgotten()
    a.restart(keep=place)
    assert a.value("x") == b"1"
    assert not a.store.context.covers(2, 5)
    sync(a, b)
    assert list(a.store.entries) == ["keep"]
    assert a.store.context.covers(2, 5)
    assert not a.replica.healing
    assert a.store.floor >= 100
    assert contents(a) == contents(b)


def test_a_member_says_that_it_has_healed_once_that_and_what_it_dropped_are_durable() -> None:
    (a, b), place = forgotten()
    a.restart(keep=place)
    current = begin(a, b)
    while not current.done:
        assert exchange.envelope(a.replica, NOW).healing
        current.receive(answer_to(b, current.request(NOW), NOW), NOW)
        if not current.done:
            a.commit()
    assert a.value("x") == b"1", "the drops wait for the disk"
    assert exchange.envelope(a.replica, NOW).healing
    a.commit()
    assert a.value("x") is None
    assert not exchange.envelope(a.replica, NOW).healing


def test_a_volume_that_holds_the_same_heals_without_a_list_however_much_that_is() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=2), healing=False)
    for number in range(20):
        b.put(f"k{number}", b"v", 100)
    sync(a, b)
    a.restart()
    assert sync(a, b) == 3, "one that asks, one with nothing to send, one for no bucket"
    assert not a.replica.healing


def test_a_healing_member_adopts_nothing_before_its_last_range() -> None:
    (a, b), place = forgotten(limits=replace(LIMITS, page_entries_max=1))
    a.restart(keep=place)
    current = begin(a, b)
    lists = 0
    while not current.done:
        assert not a.store.context.covers(2, 5)
        lists += step(current, a, b).listed is not None
    assert lists > 3, "a range for each key"
    assert a.store.context.covers(2, 5)
    assert contents(a) == contents(b)


def test_a_repair_cut_short_leaves_a_member_healing_and_what_it_dropped_dropped() -> None:
    (a, b), place = forgotten(limits=replace(LIMITS, page_entries_max=2))
    a.restart(keep=place)
    current = begin(a, b)
    while not current.done and all(key in a.store.entries for key in ("x", "y", "z")):
        step(current, a, b)
    assert not current.done
    assert a.replica.healing
    sync(a, b)
    assert not a.replica.healing
    assert contents(a) == contents(b)


def test_a_stale_key_that_is_about_to_change_keeps_the_round_from_adopting() -> None:
    (a, b), place = forgotten()
    a.restart(keep=place)
    current = begin(a, b)
    while (request := current.request(NOW)).listed is None:
        current.receive(answer_to(b, request, NOW), NOW)
        a.commit()
    a.replica.put("x", b"staged", 50)
    group = a.replica.ready()
    assert group is not None
    current.receive(answer_to(b, request, NOW), NOW)
    a.replica.advance(group)
    a.commit()
    assert a.replica.healing
    sync(a, b)
    assert not a.replica.healing


def test_a_write_that_only_the_old_volume_has_is_kept_and_offered() -> None:
    (a, b), place = forgotten()
    a.restart(keep=place)
    a.put("mine", b"alone", 50)
    a.restart()
    sync(a, b)
    assert a.value("mine") == b.value("mine") == b"alone"


def test_an_empty_volume_erases_nobody() -> None:
    (a, b), _ = forgotten()
    a.restart(keep=0)
    sync(b, a)
    sync(a, b)
    assert b.value("keep") == a.value("keep") == b"1"


def old_tombstones(limits: Limits = LIMITS) -> tuple[MemoryMember, MemoryMember]:
    """Return m0, rolled back to when it held tombstones, and m1, which forgot later deletes of their keys."""
    a, b = cluster(2, limits, healing=False)
    b.put("keep", b"1", 50)
    for key in ("x", "y", "z"):
        b.put(key, b"0", 90)
        b.delete(key, 100)
    sync(a, b)
    place = len(a.log)
    for key in ("x", "y", "z"):
        b.put(key, b"1", 200)
        b.delete(key, 300)
    for requester, responder in ((a, b), (b, a), (a, b)):
        sync(requester, responder)
    for member in (a, b):
        collect(member, NOW)
        assert list(member.store.entries) == ["keep"]
    a.restart(keep=place)
    assert a.store.deletes() == 3
    assert a.store.buckets.snapshot() == b.store.buckets.snapshot(), "the digest is over values"
    return a, b


@pytest.mark.parametrize("limits", [LIMITS, replace(LIMITS, page_entries_max=2), replace(LIMITS, page_bytes_max=40)])
def test_an_old_tombstone_is_dropped_too_before_its_later_delete_is_covered(limits: Limits) -> None:
    a, b = old_tombstones(limits)
    sync(a, b)
    assert contents(a) == contents(b)
    assert not a.replica.healing
    late = Entry("x", b"1", 200, 2, 8)
    assert a.store.context.covers(*late.dot)
    a.replica.merge([late], NOW, pushed=True)
    a.commit()
    assert a.value("x") is None, "a late copy of the value between the two deletes"


def test_tombstones_that_the_responder_has_something_newer_for_are_replaced() -> None:
    a, b = old_tombstones(replace(LIMITS, page_bytes_max=40))
    for key in ("x", "y"):
        b.put(key, b"back", 400)
    sync(a, b)
    assert a.value("x") == a.value("y") == b"back"
    assert contents(a) == contents(b)


def test_a_tombstone_that_is_gone_before_it_is_asked_about_holds_nothing_up() -> None:
    a, b = old_tombstones()
    current = begin(a, b)
    while (request := current.request(NOW)).listed is None:
        current.receive(answer_to(b, request, NOW), NOW)
        a.commit()
    a.replica.forget(["x", "y", "z"])
    a.commit()
    while not current.done:
        step(current, a, b)
    assert not a.replica.healing


def test_a_write_of_a_key_whose_tombstone_is_gone_is_not_judged_by_an_answer_that_was_not_asked_for_it() -> None:
    a, b = old_tombstones()
    current = begin(a, b)
    while (request := current.request(NOW)).listed is None:
        current.receive(answer_to(b, request, NOW), NOW)
        a.commit()
    a.replica.forget(["x", "z"])
    a.commit()
    request = current.request(NOW)
    new = {key: b.put(key, b"new", 500) for key in ("x", "y", "z")}
    answer = answer_to(b, request, NOW)
    exchange.receive_push(a.replica, wire(exchange.push_message(b.replica, tuple(new.values()), {}, NOW)), NOW)
    a.commit()
    current.receive(answer, NOW)
    a.commit()
    assert [a.value(key) for key in ("x", "y", "z")] == [b"new"] * 3
    assert current.repair is not None
    assert current.repair.result.dropped == 0


def test_tombstones_of_a_request_without_an_answer_are_asked_about_again() -> None:
    a, b = old_tombstones(replace(LIMITS, page_entries_max=2))
    current = begin(a, b)
    while (request := current.request(NOW)).listed is None:
        current.receive(answer_to(b, request, NOW), NOW)
        a.commit()
    assert request.listed == current.request(NOW).listed
    assert len(request.listed) == 2
    while not current.done:
        step(current, a, b)
    assert contents(a) == contents(b)


def test_what_the_responder_holds_newer_is_sent_whatever_is_covered() -> None:
    a, b = cluster(2, healing=False)
    b.put("x", b"new", 300)
    old = Entry("x", b"old", 100, 2, 9)
    a.replica.merge([old], NOW)
    a.commit()
    a.replica.adopt(b.store.context, 0, sender="m1")
    a.commit()
    assert a.store.context.covers(2, 1)
    a.replica.healing = True
    sync(a, b)
    assert a.value("x") == b"new"


def test_tombstones_are_listed_like_values() -> None:
    a, _ = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    part, listed = list_range(a.store, Range(ALL, None, None), LIMITS)
    assert part == Range(ALL, None, None)
    assert listed == (Listed("x", 200, 1, 2),)


def test_a_late_message_behind_the_lists_keeps_the_round_from_adopting() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=1), healing=False)
    late = b.put("aaa", b"1", 100)
    b.put("keep", b"1", 100)
    b.put("stay", b"1", 100)
    b.delete("aaa", 200)
    sync(a, b)
    sync(b, a)
    assert collect(a, NOW)
    assert collect(b, NOW)
    a.restart(keep=2)
    a.put("bbb", b"differs, so that keys are listed", 100)
    a.put("ccc", b"too", 100)
    current = begin(a, b)
    while not current.done:
        request = step(current, a, b)
        if request.listed is not None and "aaa" not in a.store.entries:
            exchange.receive_push(a.replica, wire(exchange.push_message(b.replica, (late,), {}, NOW)), NOW)
            a.commit()
    assert a.value("aaa") == b"1", "the range it is in was compared before it came"
    assert a.replica.healing
    assert not a.store.context.covers(2, 4), "the delete"
    sync(a, b)
    assert a.value("aaa") is None
    assert not a.replica.healing


@pytest.mark.parametrize(
    "wrong",
    [
        {"listed_of": 1},
        {"listed_after": "k"},
        {"listed_upto": "zzz"},
        {"listed": None},
    ],
)
def test_an_answer_about_another_range_ends_the_round(wrong: dict[str, object]) -> None:
    (a, b), place = forgotten(limits=replace(LIMITS, page_entries_max=1))
    a.restart(keep=place)
    current = begin(a, b)
    while (request := current.request(NOW)).listed is None:
        current.receive(answer_to(b, request, NOW), NOW)
        a.commit()
    answer = answer_to(b, request, NOW)
    with pytest.raises(BadEnvelope, match=r"list"):
        current.receive(replace(answer, **wrong), NOW)  # type: ignore[arg-type]


def test_a_digest_that_is_not_settled_keeps_a_member_healing() -> None:
    (a, b), place = forgotten()
    a.restart(keep=place)
    sums = list(a.store.buckets.sums)
    a.store.buckets.sums = [0] * len(sums)
    a.store.postpone()
    sync(a, b)
    assert a.replica.healing
    assert a.value("x") == b"1"
    while a.store.settle(10):
        pass
    sync(a, b)
    assert not a.replica.healing
    assert a.value("x") is None


# ---- without healing -----------------------------------------------------------------------------------------------


def stale(a: MemoryMember, b: MemoryMember) -> None:
    """Let `a` hold what it covers and `b` does not hold any more: no rule leads here, a defect might."""
    b.put("x", b"1", 100)
    sync(a, b)
    sync(b, a)
    b.replica.forget(["x"])
    b.commit()


def test_a_bucket_that_goes_on_differing_at_equal_coverage_is_listed_and_repaired() -> None:
    a, b = cluster(2, healing=False)
    stale(a, b)
    assert a.store.context == b.store.context
    for at in (NOW, NOW + SUSPECT_MS - 1):
        assert sync(a, b, at) == 1
        assert a.value("x") == b"1"
    assert sync(a, b, NOW + SUSPECT_MS) == 2
    assert a.value("x") is None
    assert sync(a, b, NOW + SUSPECT_MS) == 1


def test_a_difference_that_changes_is_not_worth_a_list() -> None:
    a, b = cluster(2, healing=False)
    stale(a, b)
    sync(a, b, NOW)
    a.replica.merge([Entry("x", b"2", 150, 2, 1)], NOW)  # the same key, hence the same bucket, by another sum
    a.commit()
    assert sync(a, b, NOW + SUSPECT_MS) == 1
    assert sync(a, b, NOW + 2 * SUSPECT_MS) == 2


def test_a_repair_that_changes_nothing_is_not_repeated_at_once() -> None:
    a, b = cluster(2, healing=False)
    stale(b, a)
    sync(a, b, NOW)
    assert sync(a, b, NOW + SUSPECT_MS) == 2, "it is b that holds too much, and b that drops"
    assert b.value("x") == b"1"
    assert sync(a, b, NOW + SUSPECT_MS + 1) == 1
    sync(b, a, NOW)
    sync(b, a, NOW + SUSPECT_MS)
    assert b.value("x") is None


def test_a_list_travels_whole() -> None:
    a, _ = cluster(2)
    message = exchange.envelope(
        a.replica, NOW, listed=(Listed("k", -5, 7, 2**63),), listed_of=ALL, listed_after="a", listed_upto="k"
    )
    assert wire(message) == message
    assert wire(replace(message, listed=())).listed == ()
