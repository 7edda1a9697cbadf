"""Which reports prove that a drained member is not needed any more (R10)."""

import pytest

from tests.fakes.cluster import MemoryMember, cluster, push, sync, wire
from wavekv.core import exchange
from wavekv.runtime.drain import BASIS_SECONDS_MAX, Drain


def healed(size: int) -> list[MemoryMember]:
    members = cluster(size)
    for member in members:
        member.replica.end_healing()
        member.commit()
    return members


def test_only_a_report_heard_after_the_last_write_counts() -> None:
    leaving, other = healed(2)
    leaving.put("k", b"v", 100)
    sync(leaving, other)
    drain = Drain(leaving.replica)
    assert drain.judge(True, 0.0).waiting_for == ["m1"], "its report covers all, and is older than the drain"
    sync(leaving, other)
    assert drain.judge(True, 0.1) == (True, False, 0, {"m1": other.inc}, [], True)


def test_the_last_member_never_may_leave() -> None:
    [leaving] = healed(1)
    leaving.put("k", b"v", 100)
    drain = Drain(leaving.replica)
    for at in (0.0, 0.1):
        assert drain.judge(True, at) == (True, False, 0, {}, [], False)


def test_every_other_member_has_to_cover_the_whole_context_not_only_the_member_s_own_writes() -> None:
    leaving, second, third = healed(3)
    lost = second.put("only copy", b"v", 100)
    push(second, leaving, (lost,))
    drain = Drain(leaving.replica)
    drain.judge(True, 0.0)
    tell(second, leaving)
    tell(third, leaving)
    status = drain.judge(True, 0.1)
    assert (status.waiting_for, status.complete) == (["m2"], False)
    sync(leaving, third)
    assert drain.judge(True, 0.2).complete


def tell(reporter: MemoryMember, hearer: MemoryMember) -> None:
    """Let `hearer` hear the report of `reporter`, and nothing else."""
    exchange.hear_report(hearer.replica, wire(exchange.report(reporter.replica, 10_000)), 10_000)


def test_dots_above_a_gap_have_to_be_covered_too() -> None:
    leaving, author, other = healed(3)
    first, second = author.put("x", b"1", 100), author.put("y", b"2", 100)
    push(author, leaving, (second,))
    push(author, other, (first,))
    assert leaving.store.context.dots() == {author.index + 1: ((2, 2),)}
    drain = Drain(leaving.replica)
    drain.judge(True, 0.0)
    tell(other, leaving)
    assert "m2" in drain.judge(True, 0.1).waiting_for
    push(author, other, (second,))
    tell(other, leaving)
    assert "m2" not in drain.judge(True, 0.2).waiting_for


def test_a_write_that_waits_for_the_disk_voids_what_was_proven_before() -> None:
    leaving, other = healed(2)
    drain = Drain(leaving.replica)
    leaving.replica.put("k", b"v", 100)
    assert drain.judge(True, 0.0).waiting_writes == 1
    sync(other, leaving)
    leaving.commit()
    sync(leaving, other)
    status = drain.judge(True, 0.1)
    assert (status.waiting_writes, status.waiting_for) == (0, ["m1"])
    sync(leaving, other)
    assert drain.judge(True, 0.2).complete


def test_a_healing_member_is_never_drained() -> None:
    leaving, *others = cluster(3)
    drain = Drain(leaving.replica)
    drain.judge(True, 0.0)
    for other in others:
        tell(other, leaving)
    status = drain.judge(True, 0.1)
    assert (status.healing, status.waiting_for, status.complete) == (True, ["m1", "m2"], False)
    leaving.replica.end_healing()
    leaving.commit()
    drain.judge(True, 0.2)
    for other in others:
        tell(other, leaving)
    assert drain.judge(True, 0.3).complete


def test_a_newer_process_of_a_name_has_to_report_anew() -> None:
    leaving, other = healed(2)
    drain = Drain(leaving.replica)
    drain.judge(True, 0.0)
    sync(leaving, other)
    assert drain.judge(True, 0.1).complete
    leaving.put("k", b"v", 100)
    other.restart(keep=0)
    assert drain.judge(True, BASIS_SECONDS_MAX + 1).waiting_for == ["m1"]
    sync(leaving, other)
    assert drain.judge(True, BASIS_SECONDS_MAX + 1.1).covered_by == {"m1": other.inc}


@pytest.mark.parametrize(("age", "complete"), [(BASIS_SECONDS_MAX, True), (BASIS_SECONDS_MAX + 0.1, False)])
def test_what_arrived_meanwhile_counts_once_the_basis_is_renewed(age: float, complete: bool) -> None:
    leaving, second, third = healed(3)
    drain = Drain(leaving.replica)
    drain.judge(True, 0.0)
    for other in (second, third):
        sync(leaving, other)
    push(second, leaving, (second.put("new", b"v", 100),))
    sync(leaving, second)
    assert drain.judge(True, age).complete is complete


def test_a_drain_that_begins_again_proves_everything_again() -> None:
    leaving, other = healed(2)
    drain = Drain(leaving.replica)
    drain.judge(True, 0.0)
    sync(leaving, other)
    drain.reset()
    leaving.put("k", b"v", 100)
    assert not drain.judge(True, 0.1).complete


def test_without_a_drain_nobody_is_waited_for() -> None:
    leaving, _ = healed(2)
    assert Drain(leaving.replica).judge(False, 0.0) == (False, False, 0, {}, [], False)
