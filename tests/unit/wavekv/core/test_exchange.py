"""Rounds between members: what is sent, when a context is adopted, and the counterexamples of R3."""

import contextlib
from dataclasses import replace

import pytest

from tests.fakes.cluster import (
    LIMITS,
    MemoryMember,
    answer_to,
    as_crate,
    cluster,
    contents,
    push,
    sync,
    wire,
)
from tests.fakes.documents import signed
from wavekv.core import exchange
from wavekv.core.membership import Epoch
from wavekv.core.messages import Page
from wavekv.errors import (
    BadEnvelope,
    ForeignCluster,
    FutureProcess,
    IdentityMismatch,
    NotAMember,
    SameProcess,
    StaleProcess,
    Superseded,
)

NOW = 10_000


def begin(requester: MemoryMember, responder: MemoryMember) -> exchange.Round:
    name = responder.replica.identity.name
    return exchange.Round(requester.replica, name, name)


def test_one_round_makes_two_members_equal_and_both_cover_the_same() -> None:
    a, b = cluster(2, healing=False)
    a.put("x", b"1", 100)
    b.put("y", b"2", 100)
    b.delete("y", 200)
    assert sync(a, b) == 2, "ask, then send what the answer's report lacks"
    assert contents(a) == contents(b)
    assert a.store.context == b.store.context
    assert a.store.buckets.snapshot() == b.store.buckets.snapshot()


def test_a_quiet_round_carries_no_entries() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    sync(a, b)
    request = begin(a, b).request(NOW)
    assert request.carried() == ()
    assert answer_to(b, request, NOW).carried() == ()


def test_blocks_go_to_who_asks_for_them_and_entries_to_others() -> None:
    a, b = cluster(2, healing=False)
    for number in range(3):
        a.put(f"a{number}", b"", 100)
        b.put(f"b{number}", b"", 100)
    request = begin(a, b).request(NOW)
    older = answer_to(b, replace(request, takes_block=False), NOW)
    newer = answer_to(b, request, NOW)
    assert older.block is None
    assert newer.block is not None
    assert newer.entries == ()
    assert newer.carried() == older.carried()
    unknown, known = begin(a, b), begin(a, b)
    unknown.receive(answer_to(b, unknown.request(NOW), NOW), NOW)
    assert len(unknown.request(NOW).entries) == 3, "b has never asked: it may be of an older version"
    a.commit()
    answer_to(a, begin(b, a).request(NOW), NOW)
    known.receive(answer_to(b, known.request(NOW), NOW), NOW)
    sent = known.request(NOW)
    assert sent.block is not None
    assert sent.entries == ()
    answer_to(b, sent, NOW)
    assert contents(a) == contents(b)


def test_an_answer_never_shows_what_is_not_durable() -> None:
    a, b = cluster(2)
    b.replica.put("x", b"1", 100)
    answer = exchange.answer(b.replica, begin(a, b).request(NOW), NOW)
    assert answer.carried() == ()
    assert answer.acks == {}


def test_large_deltas_page_in_both_directions() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=3), healing=False)
    for index in range(10):
        a.put(f"a{index}", b"", 100)
        b.put(f"b{index}", b"", 100)
    assert sync(a, b) == 5
    assert contents(a) == contents(b)
    assert a.store.context.includes(b.store.context)
    assert sync(a, b) == 1
    assert a.store.context == b.store.context


def test_who_heals_is_sent_no_more_than_a_page_and_may_adopt_nothing_with_what_is_left_out() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=3))
    for index in range(4):
        a.put(f"a{index}", b"", 100)
    current = begin(a, b)
    current.receive(answer_to(b, current.request(NOW), NOW), NOW)
    assert b.replica.healing
    b.replica.end_healing()  # it healed from another one meanwhile
    b.commit()
    request = current.request(NOW)
    assert request.carried() == ()
    current.receive(answer_to(b, request, NOW), NOW)
    assert current.done or current.repair is not None
    assert not b.store.context.covers(1, 1), "it was sent nothing"
    sync(a, b)
    assert contents(b) == contents(a)


def test_only_requests_for_a_further_page_may_leave_before_the_last_one_is_durable() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=3), healing=False)
    for index in range(7):
        b.put(f"b{index}", b"", 100)
    current = begin(a, b)
    fetching = [current.fetching]
    while not current.done:
        current.receive(answer_to(b, current.request(NOW), NOW), NOW)
        fetching.append(current.fetching)
    assert fetching == [False, True, True, False]
    a.commit()
    assert contents(a) == contents(b)
    assert a.store.context == b.store.context


def test_a_page_ends_by_bytes_too_and_an_oversized_entry_goes_alone() -> None:
    a, b = cluster(2, replace(LIMITS, page_bytes_max=100), healing=False)
    b.put("big", b"x" * 500, 100)
    for index in range(4):
        b.put(f"k{index}", b"y" * 16, 100)
    assert sync(a, b) == 3
    assert contents(a) == contents(b)


def test_a_request_filtered_by_a_report_of_an_older_process_adopts_nothing() -> None:
    a, b, c = cluster(3)
    sync(c, a)
    sync(c, b)
    a.put("x", b"1", 100)
    sync(a, b)
    keep = next(i for i, op in enumerate(b.log) if getattr(getattr(op, "entry", None), "key", "") == "x")
    b.restart(keep=keep)
    sync(b, c)
    assert not b.replica.healing, "healed by a member that lacks the write, too"
    request = begin(a, b).request(NOW)
    assert request.carried() == ()
    exchange.receive_request(b.replica, wire(request), NOW)
    b.commit()
    assert not b.store.context.covers(1, 1)
    sync(b, a)
    assert b.value("x") == b"1"


def test_an_entry_superseded_behind_the_cursor_is_still_sent_before_its_context_is_adopted() -> None:
    c, a, b = cluster(3, replace(LIMITS, page_entries_max=2))
    for key in ("p", "q", "y"):
        b.put(key, b"old", 100)
    current = begin(a, b)
    first_page = answer_to(b, current.request(NOW), NOW)
    assert first_page.page == Page((3, 2), last=False), "y waits behind the cursor"
    current.receive(first_page, NOW)
    a.commit()
    b.replica.merge([c.put("y", b"newer", 900)], NOW)
    b.commit()
    while not current.done:
        current.receive(answer_to(b, current.request(NOW), NOW), NOW)
        a.commit()
    assert a.store.context.covers(3, 3)
    assert a.value("y") == b"newer"


def test_a_round_that_outlives_the_remembered_changes_adopts_nothing() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=2, changes_max=4))
    for index in range(6):
        b.put(f"k{index}", b"", 100)
    current = begin(a, b)
    current.receive(answer_to(b, current.request(NOW), NOW), NOW)
    a.commit()
    for index in range(8):
        b.put("busy", bytes([index]), 200)
    while not current.done:
        current.receive(answer_to(b, current.request(NOW), NOW), NOW)
        a.commit()
    assert not a.store.context.includes(b.store.context)
    sync(a, b)
    assert a.store.context.includes(b.store.context)


def test_a_refused_entry_keeps_the_context_from_being_adopted() -> None:
    a, b = cluster(2)
    b.put("future", b"x", NOW + 400_000)
    b.put("fine", b"y", 100)
    sync(a, b, NOW)
    assert set(a.store.entries) == {"fine"}
    assert not a.store.context.covers(2, 1)
    sync(a, b, NOW + 200_000)
    assert contents(a) == contents(b)
    assert a.store.context == b.store.context


def test_an_answer_whose_responder_restarted_between_pages_adopts_nothing() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=2))
    for key in ("k0", "k1", "k1", "k2", "k3", "k4"):
        b.put(key, b"", 100)
    current = begin(a, b)
    current.receive(answer_to(b, current.request(NOW), NOW), NOW)
    a.commit()
    b.restart()
    while not current.done:
        current.receive(answer_to(b, current.request(NOW), NOW), NOW)
        a.commit()
    assert not a.store.context.includes(b.store.context)
    sync(a, b)
    assert a.store.context.includes(b.store.context)


def test_an_answer_that_does_not_move_its_cursor_is_refused() -> None:
    a, b = cluster(2, replace(LIMITS, page_entries_max=1))
    for index in range(3):
        b.put(f"k{index}", b"", 100)
    current = begin(a, b)
    answer = answer_to(b, current.request(NOW), NOW)
    current.receive(answer, NOW)
    current.request(NOW)
    with pytest.raises(BadEnvelope, match="cursor"):
        current.receive(answer, NOW)


def test_pushes_extend_coverage_by_their_own_dots_only() -> None:
    a, b, c = cluster(3)
    a.put("x", b"1", 100)
    second = a.put("y", b"2", 100)
    push(a, b, (second,))
    assert b.store.context.dots() == {1: ((2, 2),)}
    assert b.value("x") is None
    push(a, b, tuple(a.store.entries.values()))
    assert b.store.context.acks == {1: 2}
    assert c.store.context.acks == {}


def test_a_push_that_stands_for_superseded_sequences_closes_up() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    newest = a.put("x", b"2", 100)
    message = exchange.push_message(a.replica, (newest,), {1: ((1, 2),)}, NOW)
    exchange.receive_push(b.replica, wire(message), NOW)
    b.commit()
    assert b.store.context.acks == {1: 2}


def test_a_crate_node_s_request_adopts_nothing_and_its_answer_does() -> None:
    a, b = cluster(2)
    b.put("x", b"1", 100)
    for member in (a, b):
        member.configure_crates("c0")
    request = as_crate(begin(b, a).request(NOW))
    exchange.receive_request(a.replica, wire(replace(request, entries=tuple(b.store.entries.values()))), NOW)
    a.commit()
    assert a.value("x") == b"1"
    assert a.store.context.acks == {2: 1}, "the dot of the entry itself"
    b.put("x", b"2", 200)
    b.put("y", b"3", 200)
    current = begin(a, b)
    answer = as_crate(answer_to(b, as_crate(current.request(NOW)), NOW))
    current.receive(answer, NOW)
    a.commit()
    assert a.store.context.acks == {2: 3}


def test_a_crate_node_is_answered_with_its_own_digest() -> None:
    a, b = cluster(2)
    b.put("x", b"1", 100)
    answer = exchange.answer(b.replica, as_crate(begin(a, b).request(NOW)), NOW)
    assert answer.digest == b.store.crate_digest()
    assert exchange.answer(b.replica, begin(a, b).request(NOW), NOW).digest is None


def test_a_restarted_member_heals_by_a_complete_round_and_keeps_that_in_its_log() -> None:
    a, b = cluster(2)
    assert a.replica.healing
    sync(a, b)
    assert not a.replica.healing, "the only other member was asked"
    assert a.log[-1] == type(a.store.process)(1, 0, False)


def test_a_foreign_cluster_is_refused() -> None:
    a, b = cluster(2)
    request = replace(begin(a, b).request(NOW), cluster_id="00000000-0000-0000-0000-00000000beef")
    with pytest.raises(ForeignCluster):
        exchange.receive_request(b.replica, request, NOW)


def test_a_sender_id_of_zero_is_refused() -> None:
    a, b = cluster(2)
    with pytest.raises(BadEnvelope, match="sender_id"):
        exchange.receive_request(b.replica, replace(begin(a, b).request(NOW), sender_id=0), NOW)


def test_a_known_node_under_another_uuid_is_refused() -> None:
    a, b = cluster(2)
    sync(a, b)
    with pytest.raises(IdentityMismatch):
        exchange.receive_request(b.replica, replace(begin(a, b).request(NOW), sender_uuid=bytes(16)), NOW)


def test_a_superseded_process_and_a_namesake_are_refused() -> None:
    a, b = cluster(2)
    old = begin(a, b).request(NOW)
    a.restart()
    sync(a, b)
    with pytest.raises(StaleProcess) as refusal:
        exchange.receive_request(b.replica, old, NOW)
    assert (refusal.value.member, refusal.value.newest) == ("m0", 2), "the refused one learns why"
    b.restart()
    with pytest.raises(StaleProcess) as refusal:
        exchange.receive_request(b.replica, replace(old, name="m1"), NOW)
    assert (refusal.value.member, refusal.value.newest) == ("m1", 2)
    assert b.replica.reports.superseded_by == 0


def test_a_newer_process_under_the_own_name_supersedes_and_the_next_start_is_newer_still() -> None:
    a, b = cluster(2)
    message = replace(begin(b, a).request(NOW), name="m0", inc=77)
    for inc, refusal in ((77, Superseded), (1, StaleProcess), (NOW + LIMITS.future_ms_max + 1, FutureProcess)):
        with pytest.raises(refusal):
            exchange.receive_request(a.replica, replace(message, inc=inc), NOW)
    assert a.replica.reports.superseded_by == 77
    a.replica.supersede()
    a.commit()
    a.restart()
    assert a.replica.identity.inc == 78
    assert a.replica.reports.superseded_by == 0


def test_a_message_that_comes_back_to_its_sender_supersedes_nobody() -> None:
    a, b = cluster(2)
    with pytest.raises(SameProcess):
        exchange.receive_request(a.replica, begin(a, b).request(NOW), NOW)
    assert a.replica.reports.superseded_by == 0


def test_a_refused_message_merges_nothing() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    with pytest.raises(ForeignCluster):
        exchange.receive_request(b.replica, replace(begin(a, b).request(NOW), cluster_id="x"), NOW)
    b.commit()
    assert b.store.entries == {}


def test_a_member_left_out_of_the_epoch_is_refused_and_the_newest_epoch_is_learnt_from_any_message() -> None:
    names = ("m0", "m1", "m2")
    old, new = Epoch(1, names), signed(Epoch(2, ("m0", "m1")))
    a, b = MemoryMember(0, names, epoch=new), MemoryMember(1, names, epoch=old)
    c = MemoryMember(2, names, epoch=old)
    c.put("x", b"1", 100)
    sync(a, b)
    assert b.replica.membership.epoch == new.following(old.following(None))
    with pytest.raises(NotAMember):
        exchange.receive_request(b.replica, begin(c, b).request(NOW), NOW)
    assert b.value("x") is None


def test_a_member_admitted_again_adopts_nothing_and_changes_its_origin_until_a_round_of_its_own_healed_it() -> None:
    names = ("m0", "m1")
    a = MemoryMember(0, names, epoch=signed(Epoch(3, names)))
    b = MemoryMember(1, names, epoch=Epoch(2, ("m0",)))
    b.replica.healing = False
    b.put("mine", b"1", 100)
    origin = b.replica.origin
    a.replica.healing = False
    a.put("x", b"1", 100)
    request = replace(begin(a, b).request(NOW), entries=tuple(a.store.entries.values()), acks={77: 5}, since=0)
    exchange.receive_request(b.replica, wire(request), NOW)
    b.commit()
    assert b.replica.membership.must_heal()
    assert b.store.process.healing
    assert b.value("x") == b"1", "entries are merged"
    assert 77 not in b.store.context.acks, "the context is not adopted"
    sync(b, a)
    assert not b.replica.healing
    b.put("more", b"2", 200)
    assert b.replica.origin not in (0, origin)


def test_a_page_marked_last_counts_as_final() -> None:
    a, b = cluster(2, healing=False)
    b.put("x", b"1", 100)
    current = begin(a, b)
    answer = replace(answer_to(b, current.request(NOW), NOW), page=Page((2, 1), last=True))
    current.receive(answer, NOW)
    assert current.done


def test_a_floor_of_a_clock_far_ahead_is_not_adopted_and_is_counted() -> None:
    a, b = cluster(2)
    sync(b, a)
    request = begin(a, b).request(NOW)
    at_bound, beyond = NOW + LIMITS.future_ms_max, NOW + LIMITS.future_ms_max + 1
    for acks, floor in (({77: 1}, beyond), ({78: 1}, at_bound)):
        exchange.receive_request(b.replica, replace(request, acks=acks, floor=floor, since=b.inc), NOW)
        b.commit()
    assert b.store.context.acks == {78: 1}
    assert b.store.floor == at_bound
    assert b.replica.refused == {"future_floor": 1}
    current = begin(b, a)
    answer = replace(answer_to(a, current.request(NOW), NOW), acks={79: 1}, floor=beyond)
    current.receive(answer, NOW)
    b.commit()
    assert not b.store.context.covers(79, 1)


@pytest.mark.parametrize(
    ("number", "members", "sender"),
    [
        (2**64 - 1, ("m0", "m1"), "m1"),
        (9, (), "m1"),
        (9, ("m0", "m0"), "m1"),
        (9, ("m0", ""), "m1"),
        (9, tuple(f"x{i}" for i in range(1001)), "m1"),
        (9, ("m0", "other"), "stranger"),
    ],
)
def test_an_epoch_that_cannot_be_one_is_not_learnt(number: int, members: tuple[str, ...], sender: str) -> None:
    names = ("m0", "m1")
    a, b = (MemoryMember(index, names, epoch=Epoch(3, names)) for index in range(2))
    request = replace(begin(b, a).request(NOW), epoch=number, members=members, name=sender)
    with contextlib.suppress(NotAMember):
        exchange.receive_request(a.replica, request, NOW)
    assert a.replica.membership.epoch == Epoch(3, names).following(None)


def test_a_process_number_from_the_future_locks_nobody_out() -> None:
    a, b = cluster(2)
    request = begin(b, a).request(NOW)
    with pytest.raises(FutureProcess):
        exchange.receive_request(a.replica, replace(request, inc=NOW + LIMITS.future_ms_max + 1), NOW)
    exchange.receive_request(a.replica, request, NOW)
    assert a.replica.reports.of("m1") is not None


def test_the_names_of_an_epoch_go_to_who_may_not_know_it_alone() -> None:
    names = ("m0", "m1")
    a, b = (MemoryMember(index, names, epoch=Epoch(4, names)) for index in range(2))
    assert begin(a, b).request(NOW).members == names, "never heard"
    assert exchange.push_message(a.replica, (), {}, NOW, "m1").members == names
    sync(a, b)
    for message in (begin(a, b).request(NOW), exchange.push_message(a.replica, (), {}, NOW, "m1")):
        assert (message.epoch, message.members) == (4, None)
    assert answer_to(b, begin(a, b).request(NOW), NOW).members is None
    a.replica.membership.learn(signed(Epoch(5, names, admitted=dict.fromkeys(names, 4))))
    message = begin(a, b).request(NOW)
    assert message.members == names
    answer_to(b, message, NOW)
    assert b.replica.membership.epoch == Epoch(5, names, admitted=dict.fromkeys(names, 4))


def test_a_receipt_is_no_report_of_what_was_taken() -> None:
    a, b = cluster(2)
    entry = a.put("x", b"1", 100)
    push(a, b, (entry,))
    exchange.hear_report(a.replica, wire(exchange.receipt(b.replica, NOW)), NOW)
    report = a.replica.reports.of("m1")
    assert report is not None
    assert not report.context.covers(*entry.dot), "who covers a dot is believed to cover all it superseded"
    exchange.hear_report(a.replica, wire(exchange.report(b.replica, NOW)), NOW)
    exchange.hear_report(a.replica, wire(exchange.receipt(b.replica, NOW)), NOW)
    assert report.context.covers(*entry.dot), "and takes nothing back"
