"""What a member tells of its coverage while its volume is being filled."""

from dataclasses import replace

from tests.fakes.cluster import LIMITS, MemoryMember, answer_to, as_crate, cluster, sync
from wavekv.core import exchange
from wavekv.core.context import Context
from wavekv.core.types import Entry

NOW = 10_000


def begin(requester: MemoryMember, responder: MemoryMember) -> exchange.Round:
    name = responder.replica.identity.name
    return exchange.Round(requester.replica, name, name)


def with_gaps(member: MemoryMember, count: int) -> None:
    """Let `member` hold entries of a third one, every other of whose writes was superseded."""
    member.replica.merge([Entry(f"k{number}", b"v", 100, 77, 2 * number + 2) for number in range(count)], NOW)
    member.commit()


def test_who_heals_and_covers_too_many_single_dots_tells_them_only_where_they_are_needed() -> None:
    limits = replace(LIMITS, told_dots_max=3)
    filling, trusted, healing = cluster(3, limits)
    trusted.replica.end_healing()
    trusted.commit()
    with_gaps(filling, 3)
    assert exchange.report(filling.replica, NOW).dots, "not too many yet"
    with_gaps(filling, 4)
    report = exchange.report(filling.replica, NOW)
    assert (report.acks, report.dots) == ({}, {})
    told = answer_to(filling, begin(trusted, filling).request(NOW), NOW)
    assert (told.acks, told.dots, told.floor) == ({}, {}, None)
    assert len(told.carried()) == 4
    assert sync(trusted, filling) == 1
    assert trusted.store.context.dots() == filling.store.context.dots(), "by the entries, not by what it told"
    needed = answer_to(filling, begin(healing, filling).request(NOW), NOW)
    assert needed.dots == filling.store.context.dots()
    assert needed.floor is not None
    filling.configure_crates("c0")
    as_a_crate = answer_to(filling, as_crate(begin(trusted, filling).request(NOW)), NOW)
    assert as_a_crate.dots


def test_who_heals_and_covers_too_many_single_dots_is_healed_by_a_member_that_covers_all() -> None:
    a, b = cluster(2, replace(LIMITS, told_dots_max=3, page_entries_max=2))
    b.replica.end_healing()
    with_gaps(b, 9)
    b.replica.adopt(Context({77: 20}), 0)
    b.commit()
    current = begin(a, b)
    listed = []
    while not current.done:
        request = current.request(NOW)
        listed += [request] if request.listed is not None else []
        current.receive(answer_to(b, request, NOW), NOW)
        a.commit()
    assert listed
    assert all(not request.dots for request in listed)
    assert not a.replica.healing
    assert a.store.context == b.store.context
    assert exchange.report(a.replica, NOW).acks == a.store.context.acks


def test_a_trusted_member_tells_however_many_single_dots_it_covers() -> None:
    a, b = cluster(2, replace(LIMITS, told_dots_max=3), healing=False)
    with_gaps(a, 9)
    assert exchange.report(a.replica, NOW).dots == a.store.context.dots()
    assert answer_to(a, begin(b, a).request(NOW), NOW).floor is not None
