"""Lag and convergence as told from ack vectors."""

from tests.fakes.cluster import MemoryMember, cluster, sync
from wavekv.core.context import Context
from wavekv.core.reports import Report
from wavekv.runtime.convergence import SETTLE_SECONDS, Convergence


def report_of(member: MemoryMember | Context) -> Report:
    context = member.store.context.copy() if isinstance(member, MemoryMember) else member
    buckets = member.store.buckets.snapshot() if isinstance(member, MemoryMember) else None
    return Report(1, context, 0, buckets=buckets)


def test_a_member_without_peers_has_converged() -> None:
    (alone,) = cluster(1)
    convergence = Convergence(alone.store)
    convergence.observe(0.0, {})
    assert convergence.since == 0.0


def test_a_peer_that_was_not_heard_of_ends_convergence() -> None:
    a, b = cluster(2)
    convergence = Convergence(a.store)
    convergence.observe(0.0, {"m1": report_of(b)})
    assert convergence.since == 0.0
    convergence.observe(1.0, {"m1": None})
    assert convergence.since is None


def test_only_writes_older_than_the_settling_time_have_to_be_everywhere() -> None:
    a, b = cluster(2)
    convergence = Convergence(a.store)
    a.put("x", b"1", 100)
    stale = report_of(b)
    for second in range(int(SETTLE_SECONDS)):
        convergence.observe(float(second), {"m1": stale})
        assert convergence.since == 0.0
    convergence.observe(SETTLE_SECONDS, {"m1": stale})
    assert convergence.since is None
    sync(b, a)
    convergence.observe(SETTLE_SECONDS + 1, {"m1": report_of(b)})
    assert convergence.since == SETTLE_SECONDS + 1


def test_what_a_peer_reported_five_seconds_ago_has_to_be_here_too() -> None:
    a, b = cluster(2)
    convergence = Convergence(a.store)
    b.put("x", b"1", 100)
    convergence.observe(0.0, {"m1": report_of(b)})
    convergence.observe(SETTLE_SECONDS, {"m1": report_of(b)})
    assert convergence.since is None


def test_equal_coverage_with_different_buckets_is_no_convergence() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    sync(b, a)
    convergence = Convergence(a.store)
    differing = report_of(b)
    differing.buckets = (1, *(differing.buckets or ())[1:])
    convergence.observe(0.0, {"m1": differing})
    assert convergence.since is None


def converged_pair() -> tuple[Convergence, Report]:
    """Return the verdict of a member that converged, and a report that covers the same with one bucket off."""
    a, b = cluster(2)
    a.put("x", b"1", 100)
    sync(b, a)
    convergence = Convergence(a.store)
    convergence.observe(0.0, {"m1": report_of(b)})
    assert convergence.since == 0.0
    return convergence, off_by(b, 1)


def off_by(member: MemoryMember, difference: int) -> Report:
    report = report_of(member)
    assert report.buckets is not None
    report.buckets = ((report.buckets[0] + difference) % 2**64, *report.buckets[1:])
    return report


def test_members_that_had_converged_may_differ_for_a_moment_as_one_collects_what_expired_before_the_other() -> None:
    convergence, differing = converged_pair()
    convergence.observe(1.0, {"m1": differing})
    convergence.observe(SETTLE_SECONDS + 0.9, {"m1": differing})
    assert convergence.since == 0.0
    for late in (1.0, 2.0):
        convergence.observe(SETTLE_SECONDS + late, {"m1": differing})
        assert convergence.since is None


def test_differences_that_come_and_go_end_no_convergence() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    sync(b, a)
    convergence = Convergence(a.store)
    convergence.observe(0.0, {"m1": report_of(b)})
    for second in range(1, 4 * int(SETTLE_SECONDS)):
        convergence.observe(float(second), {"m1": off_by(b, 1 + second % 3)})
    assert convergence.since == 0.0


def test_a_digest_of_another_size_is_no_convergence() -> None:
    convergence, differing = converged_pair()
    differing.buckets = (1, 2)
    convergence.observe(1.0, {"m1": differing})
    assert convergence.since is None


def test_lag_counts_sequences_and_dates_the_oldest() -> None:
    a, b = cluster(2)
    convergence = Convergence(a.store)
    convergence.observe(0.0, {"m1": report_of(b)})
    a.put("x", b"1", 100)
    a.put("y", b"1", 100)
    convergence.observe(2.0, {"m1": report_of(b)})
    assert convergence.lag(report_of(Context({9: 4})), 5.0) == (2, 3.0, 4)
    assert convergence.lag(report_of(a), 5.0) == (0, 0.0, 0)
