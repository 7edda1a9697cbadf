"""Which deletes are forgotten, and who keeps them (R5, R11, R14)."""

from array import array
from dataclasses import replace

import pytest

from tests.fakes.cluster import MemoryMember, as_crate, cluster, collect, push, sync, wire
from wavekv.core import collection, exchange
from wavekv.core.collection import Pin
from wavekv.core.image import Dots, Image
from wavekv.core.membership import Epoch, Membership
from wavekv.core.ops import Clear, Floor
from wavekv.core.packed import pack
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.errors import NotAMember

NOW = 10_000


def agree(*members: MemoryMember, now_ms: int = NOW) -> None:
    for a in members:
        for b in members:
            if a is not b:
                sync(a, b, now_ms)


def pins(member: MemoryMember) -> list[Pin]:
    return collection.pins(member.replica)


def test_a_delete_is_forgotten_by_each_member_once_it_has_heard_that_all_cover_it() -> None:
    members = a, b, _ = cluster(3)
    agree(*members)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    sync(b, a)
    assert collect(a, NOW) == collect(b, NOW) == [], "c has not got it"
    agree(*members)
    for member in members:
        assert [entry.key for entry in collect(member, NOW)] == ["x"]
        assert not member.store.entries
        assert member.store.context.covers(1, 2)


def test_one_volume_under_two_names_is_asked_under_the_last_one_alone() -> None:
    a, b, _ = members = cluster(3)
    agree(*members)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    sync(b, a)
    sync(a, b)
    report = exchange.report(b.replica, NOW)
    exchange.hear_report(a.replica, wire(replace(report, name="m2", inc=9)), NOW)  # it came back as m2, c as m1
    assert collect(a, NOW) == []
    assert [(pin.name, pin.reason) for pin in pins(a)] == [("m1", "not heard")]
    exchange.hear_report(a.replica, wire(replace(report, name="m1", inc=10)), NOW)
    assert [pin.name for pin in pins(a)] == ["m2"]
    exchange.hear_report(a.replica, wire(replace(report, name="m2", inc=9)), NOW)
    assert [entry.key for entry in collect(a, NOW)] == ["x"], "two clones that both go on are two members"


def test_what_is_forgotten_stays_forgotten_over_a_restart_and_new_writes_rank_above_it() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 5000)
    a.delete("x", 6000)
    agree(a, b)
    collect(a, NOW)
    a.restart()
    assert not a.store.entries
    assert a.store.floor == 6000
    assert a.put("x", b"2", 100).timestamp == 6001, "I6"


def test_the_floor_is_logged_before_the_removal_so_that_no_torn_log_lacks_it() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    at = len(a.log)
    collect(a, NOW)
    assert [type(op) for op in a.log[at:]] == [Floor, Clear]


def test_a_report_that_is_not_covered_here_counts_for_nothing() -> None:
    a, b = cluster(2)
    agree(a, b)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    push(a, b, tuple(a.store.entries.values()))
    b.put("y", b"elsewhere", 300)
    exchange.hear_report(a.replica, wire(exchange.report(b.replica, NOW)), NOW)
    assert a.replica.reports.of("m1").context.covers(1, 2)  # type: ignore[union-attr]
    assert collect(a, NOW) == [], "b covers something that a lacks: it may be an older write of the key"
    sync(a, b)
    assert collect(a, NOW) != []


def test_an_older_report_will_do_while_the_newest_is_always_ahead() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    collection.pins(a.replica)
    b.put("y", b"newer", 300)
    exchange.hear_report(a.replica, wire(exchange.report(b.replica, NOW)), NOW)
    assert [entry.key for entry in collect(a, NOW)] == ["x"]


def test_a_receipt_leaves_a_report_and_what_was_covered_of_it_as_they_are() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    agree(a, b)
    collection.pins(a.replica)
    report = a.replica.reports.of("m1")
    assert report is not None
    context = report.context
    exchange.hear_report(a.replica, wire(exchange.receipt(b.replica, NOW + 1)), NOW + 1)
    assert report.context is context
    assert report.context.covers(1, 1)
    assert report.clock_ms == NOW + 1


def test_a_newer_process_of_a_member_has_to_report_again() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    b.restart()
    exchange.receive_request(a.replica, wire(replace(exchange.report(b.replica, NOW), acks={})), NOW)
    assert collect(a, NOW) == []


def test_an_expired_value_is_forgotten_once_no_clock_is_behind_its_time() -> None:
    a, b = cluster(2)
    a.replica.put("x", b"1", 100, expires_at=5000)
    a.commit()
    agree(a, b, now_ms=4999)
    a.store.take_expired(5200, 10)
    assert collect(a, 5200) == [], "b's clock said 4999"
    agree(a, b, now_ms=5000)
    assert [entry.key for entry in collect(a, 5200)] == ["x"]


def test_nothing_is_forgotten_while_a_node_of_the_original_system_speaks() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    a.configure_crates("c0")
    exchange.receive_request(a.replica, wire(as_crate(replace(exchange.report(b.replica, NOW), sender_id=9))), NOW)
    assert collect(a, NOW) == []
    assert Pin("*", "a node of the original system is a member", 200) in pins(a)


def test_nothing_is_forgotten_where_it_is_not_known_who_belongs() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    a.replica.membership = Membership("m0", None, None, ("m1",), discovers=True)
    assert collect(a, NOW) == []
    assert pins(a) == [Pin("*", "members found by DNS may not be all", 200)]
    a.replica.membership.learn(Epoch(1, ("m0", "m1")))
    assert collect(a, NOW) != []


def test_a_sender_that_no_flag_names_is_refused_and_holds_nothing_up() -> None:
    a, b = cluster(2)
    stranger = MemoryMember(0, ("m7", "m0", "m1"))
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    message = replace(exchange.report(stranger.replica, NOW), sender_id=7, sender_uuid=b"7" * 16)
    with pytest.raises(NotAMember, match="m7 is no configured peer"):
        exchange.receive_request(a.replica, wire(message), NOW)
    assert [entry.key for entry in collect(a, NOW)] == ["x"]


def test_a_key_that_is_about_to_be_written_is_left_alone_and_collected_if_the_write_is_lost() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    a.replica.put("x", b"2", 300)
    group = a.replica.ready()
    assert group is not None
    assert collection.collect(a.replica, NOW, 10) == 0
    a.replica.abandon()
    assert [entry.key for entry in collect(a, NOW)] == ["x"]


def test_a_removal_that_never_reached_the_disk_is_tried_again() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    a.delete("x", 200)
    agree(a, b)
    assert collection.collect(a.replica, NOW, 10) == 1
    a.replica.ready()
    a.replica.abandon()
    assert a.store.entries
    assert [entry.key for entry in collect(a, NOW)] == ["x"]


def test_a_write_behind_a_staged_removal_counts_as_a_new_key_above_what_is_forgotten() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 5000)
    a.delete("x", 6000)
    agree(a, b)
    collection.collect(a.replica, NOW, 10)
    staged = a.replica.put("x", b"2", 100)
    assert staged.entry.timestamp == 6001
    a.commit()
    assert a.value("x") == b"2"
    assert a.replica._staging.keys == len(a.store.packed) == 1


def test_tombstones_of_a_snapshot_are_noted_in_slices() -> None:
    held = {f"k{seq}": Entry(f"k{seq}", None if seq in (11, 13, 15) else b"1", 100, 1, seq) for seq in range(10, 30)}
    keys = list(held)
    dots = Dots(1, array("Q", range(10, 30)), array("I", range(20)))
    image = Image({key: pack(entry) for key, entry in held.items()}, keys, [dots], values=17)
    store = Store(10, image)
    assert store.graves.tombstones() == []
    assert store.settle(1)
    assert not store.surveyed
    assert store.settle(1)
    assert store.surveyed
    assert store.graves.take(lambda _origin, _seq: True, 0, 10) == ["k11", "k13", "k15"]


def test_pins_name_who_was_not_heard_who_is_behind_and_since_when() -> None:
    a, b, c = cluster(3)
    agree(a, b)
    a.put("x", b"1", 100)
    assert pins(a) == []
    a.delete("x", 200)
    assert pins(a) == [Pin("m1", "behind", 200), Pin("m2", "not heard", 200)]
    sync(a, b)
    assert pins(a) == [Pin("m2", "not heard", 200)]
    agree(a, c)
    assert pins(a) == []


def test_a_pin_may_be_a_clock() -> None:
    a, b = cluster(2)
    a.replica.put("x", b"1", 100, expires_at=5000)
    a.commit()
    agree(a, b, now_ms=4000)
    a.store.take_expired(5200, 10)
    assert pins(a) == [Pin("m1", "behind", 5000)]
