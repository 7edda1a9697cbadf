"""Lag and convergence as told from ack vectors."""

from tests.fakes.cluster import MemoryMember, cluster, sync
from wavekv.config import GossipSettings
from wavekv.core.context import Context
from wavekv.core.reports import Report
from wavekv.runtime.convergence import SETTLE_SECONDS, Convergence, heard_seconds_max


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


def test_a_converged_cluster_tolerates_differences_that_change_and_none_that_stays() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    sync(b, a)
    sync(a, b)
    convergence = Convergence(a.store)
    convergence.observe(0.0, {"m1": report_of(b)})
    assert convergence.since == 0.0
    report = report_of(b)
    same = report.buckets or ()
    for second in range(1, 12):
        report.buckets = (second, *same[1:])
        convergence.observe(float(second), {"m1": report})
        assert convergence.since == 0.0
    for second in range(12, 20):
        convergence.observe(float(second), {"m1": report})
        assert convergence.since == (0.0 if second < 11 + SETTLE_SECONDS else None)
    report.buckets = same
    convergence.observe(20.0, {"m1": report})
    assert convergence.since == 20.0


def test_lag_counts_sequences_and_dates_the_oldest() -> None:
    a, b = cluster(2)
    convergence = Convergence(a.store)
    convergence.observe(0.0, {"m1": report_of(b)})
    a.put("x", b"1", 100)
    a.put("y", b"1", 100)
    convergence.observe(2.0, {"m1": report_of(b)})
    assert convergence.lag(report_of(Context({9: 4})), 5.0) == (2, 3.0, 4)
    assert convergence.lag(report_of(a), 5.0) == (0, 0.0, 0)


def test_samples_of_peers_are_few_and_share_what_is_equal() -> None:
    a, b = cluster(2)
    a.put("x", b"1", 100)
    sync(b, a)
    convergence = Convergence(a.store)
    names = [f"m{number}" for number in range(1, 31)]
    for second in range(100):
        convergence.observe(float(second), {name: report_of(b) for name in names})
    samples, contexts = convergence.held()
    assert samples <= 64 + 30 * (SETTLE_SECONDS + 2)
    assert contexts == 1
    behind = report_of(Context({9: 4}))
    convergence.observe(100.0, {name: behind if name == "m1" else report_of(b) for name in names})
    assert convergence.held()[1] == 2


def test_a_peer_s_last_word_may_be_as_old_as_rounds_are_rare() -> None:
    settings = GossipSettings(interval_ms=1000, fanout=3)
    assert [heard_seconds_max(peers, settings) for peers in (0, 5, 100, 1000)] == [10, 10, 200, 2000]
