"""Every message names the origin its sender's process writes under, once that is durable."""

from tests.fakes.cluster import cluster
from wavekv.core import exchange

NOW = 10_000


def test_a_process_tells_its_origin_once_it_is_durable() -> None:
    a, _ = cluster(2)
    assert exchange.report(a.replica, NOW).origin is None, "it has not written"
    a.replica.put("k", b"v", NOW)
    assert exchange.report(a.replica, NOW).origin is None, "not on disk yet"
    a.commit()
    assert exchange.report(a.replica, NOW).origin == a.replica.origin
    assert exchange.receipt(a.replica, NOW).origin == a.replica.origin
    assert exchange.push_message(a.replica, (), {}, NOW).origin == a.replica.origin
