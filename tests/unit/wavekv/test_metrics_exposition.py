"""What a scrape shows of what log, runtime and status told."""

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from wavekv import __version__
from wavekv.metrics import Metrics, observer
from wavekv.metrics.families import COUNTED, FAMILIES

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(metrics: Metrics) -> Samples:
    """Return all samples by name and labels."""
    body, _ = metrics.exposition("")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scraped(metrics).get((name, frozenset(labels.items())))


def status(**changes: Any) -> dict[str, Any]:
    """Return the status of a healthy member with two peers, one of which was never heard."""
    return {
        "ready": True,
        "healing": False,
        "converged": True,
        "converged_since": 1700000000.5,
        "clock": {"ahead": True},
        "waiting": {"sessions": 8, "spreads": 9},
        "waiting_writes": 3,
        "disk_full": True,
        "process": {"superseded_by": 9},
        "store": {
            "entries": 12,
            "live": 10,
            "bytes": 4096,
            "entries_max": 48,
            "bytes_max": 8192,
            "lost_writes": 5,
        },
        "ephemeral": {"entries": 6},
        "watches": {"open": 4, "cut": 1},
        "compaction": {"running": True},
        "log": {"segments": 2, "used_bytes": 700, "allocated_bytes": 8192, "position": 40, "snapshot_bytes": 2048},
        "recovery": {"damage": None, "records": 33, "seconds": 0.25},
        "peers": [
            {"name": "m1", "reachable": True, "lag": 7, "lag_seconds": 1.5, "behind": 3, "clock_skew_ms": -250},
            {"name": "m2", "reachable": False, "lag": None, "lag_seconds": None, "behind": None, "clock_skew_ms": None},
        ],
        **changes,
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_build_info_carries_the_version(metrics: Metrics) -> None:
    assert value(metrics, "wavekv_build_info", version=__version__) == 1


def test_gauges_show_the_status_at_the_time_of_the_scrape(metrics: Metrics) -> None:
    told = status()
    metrics.bind(lambda: told)
    samples = scraped(metrics)
    expected = {
        ("wavekv_ready", ()): 1,
        ("wavekv_healing", ()): 0,
        ("wavekv_superseded", ()): 1,
        ("wavekv_converged", ()): 1,
        ("wavekv_converged_since_timestamp_seconds", ()): 1700000000.5,
        ("wavekv_clock_ahead", ()): 1,
        ("wavekv_entries", ()): 12,
        ("wavekv_entries_live", ()): 10,
        ("wavekv_data_bytes", ()): 4096,
        ("wavekv_log_bytes", (("kind", "used"),)): 700,
        ("wavekv_log_bytes", (("kind", "allocated"),)): 8192,
        ("wavekv_log_segments", ()): 2,
        ("wavekv_snapshot_bytes", ()): 2048,
        ("wavekv_compacting", ()): 1,
        ("wavekv_disk_full", ()): 1,
        ("wavekv_recovery_damage", (("kind", "corruption"),)): 0,
        ("wavekv_ephemeral_entries", ()): 6,
        ("wavekv_watches", ()): 4,
        ("wavekv_watches_cut", ()): 1,
        ("wavekv_lost_writes", ()): 5,
        ("wavekv_limit_ratio", (("limit", "entries"),)): 0.25,
        ("wavekv_limit_ratio", (("limit", "bytes"),)): 0.5,
        ("wavekv_waiting_writes", ()): 3,
        ("wavekv_waiting_sessions", ()): 8,
        ("wavekv_waiting_spreads", ()): 9,
        ("wavekv_recovered_records", ()): 33,
        ("wavekv_recovery_seconds", ()): 0.25,
        ("wavekv_peers", ()): 2,
        ("wavekv_peer_up", (("peer", "m1"),)): 1,
        ("wavekv_peer_up", (("peer", "m2"),)): 0,
        ("wavekv_peer_lag_sequences", (("peer", "m1"),)): 7,
        ("wavekv_peer_lag_seconds", (("peer", "m1"),)): 1.5,
        ("wavekv_peer_behind_sequences", (("peer", "m1"),)): 3,
        ("wavekv_peer_clock_skew_seconds", (("peer", "m1"),)): -0.25,
    }
    shown = {(name, tuple(labels)): number for (name, labels), number in samples.items()}
    assert {key: shown.get(key) for key in expected} == expected
    told["store"]["entries"] = 13
    assert value(metrics, "wavekv_entries") == 13


def test_what_the_member_does_not_know_has_no_sample(metrics: Metrics) -> None:
    metrics.bind(lambda: status(converged=None, converged_since=None))
    assert value(metrics, "wavekv_converged_since_timestamp_seconds") is None
    assert value(metrics, "wavekv_peer_behind_sequences", peer="m2") is None
    assert value(metrics, "wavekv_peer_clock_skew_seconds", peer="m2") is None
    assert value(metrics, "wavekv_converged") is None
    assert value(metrics, "wavekv_peer_lag_sequences", peer="m2") is None
    assert value(metrics, "wavekv_peer_lag_seconds", peer="m2") is None


def test_a_starting_member_has_counters_at_zero_and_no_gauges(metrics: Metrics) -> None:
    assert value(metrics, "wavekv_entries") is None
    assert value(metrics, "wavekv_log_written_bytes_total") == 0
    assert value(metrics, "wavekv_fsync_duration_seconds_count") == 0


def test_an_operation_is_counted_by_result_and_timed_by_kind(metrics: Metrics) -> None:
    metrics.operation("http", "get", "ok", 0.001)
    metrics.operation("http", "get", "ok", 0.002)
    metrics.operation("http", "get", "not_found", 0.003)
    metrics.operation("resp", "get", "ok", 1.0)
    assert value(metrics, "wavekv_operations_total", plane="http", kind="get", result="ok") == 2
    assert value(metrics, "wavekv_operations_total", plane="http", kind="get", result="not_found") == 1
    assert value(metrics, "wavekv_operation_duration_seconds_count", plane="http", kind="get") == 3
    total = value(metrics, "wavekv_operation_duration_seconds_sum", plane="http", kind="get")
    assert total == pytest.approx(0.006)
    assert value(metrics, "wavekv_operation_duration_seconds_count", plane="resp", kind="get") == 1


def test_canaries_are_timed_for_each_peer(metrics: Metrics) -> None:
    metrics.canary("m1", 0.003)
    metrics.canary("m1", 0.5)
    metrics.canary("m2", 0.001)
    assert value(metrics, "wavekv_peer_propagation_seconds_count", peer="m1") == 2
    assert value(metrics, "wavekv_peer_propagation_seconds_sum", peer="m1") == pytest.approx(0.503)
    assert value(metrics, "wavekv_peer_propagation_seconds_bucket", peer="m2", le="0.001") == 1


def test_histogram_bounds_are_inclusive_and_cumulative(metrics: Metrics) -> None:
    for seconds in (0.25, 0.2500001, 1e9):
        metrics.propagated(seconds)
        metrics.operation("http", "put", "ok", seconds)
    operation = {"plane": "http", "kind": "put"}
    for le, count in (("0.25", 1), ("0.5", 2), ("+Inf", 3)):
        assert value(metrics, "wavekv_propagation_seconds_bucket", le=le) == count
        assert value(metrics, "wavekv_operation_duration_seconds_bucket", le=le, **operation) == count


def test_a_commit_group_is_timed_sized_and_weighed(metrics: Metrics) -> None:
    metrics.synced(0.0002, 64, 9000)
    metrics.synced(0.002, 1, 100)
    assert value(metrics, "wavekv_fsync_duration_seconds_bucket", le="0.0002") == 1
    assert value(metrics, "wavekv_log_group_ops_sum") == 65
    assert value(metrics, "wavekv_log_group_ops_bucket", le="32.0") == 1
    assert value(metrics, "wavekv_log_written_bytes_total") == 9100


def test_exchanges_pushes_and_refusals_are_counted_by_their_labels(metrics: Metrics) -> None:
    metrics.exchanged("m1", "ok", 0.01)
    metrics.exchanged("m1", "peer_unreachable", 10.0)
    metrics.pushed("m1", "ok", 5)
    metrics.pushed("m2", "peer_unreachable", 7)
    metrics.refused("limit_reached", 4)
    metrics.refused("limit_reached", 1)
    assert value(metrics, "wavekv_exchanges_total", peer="m1", result="peer_unreachable") == 1
    assert value(metrics, "wavekv_exchange_duration_seconds_count") == 2
    assert value(metrics, "wavekv_pushes_total", peer="m2", result="peer_unreachable") == 1
    assert value(metrics, "wavekv_refused_entries_total", code="limit_reached") == 5


def test_entries_of_a_failed_push_are_not_counted_as_pushed(metrics: Metrics) -> None:
    metrics.pushed("m1", "ok", 5)
    metrics.pushed("m1", "peer_unreachable", 7)
    assert value(metrics, "wavekv_pushed_entries_total") == 5


def test_label_values_over_the_bound_are_counted_together(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "SERIES_MAX", 2)
    for peer in ("a", "b", "c", "d", "a"):
        metrics.exchanged(peer, "ok", 0.01)
        metrics.operation("http", peer, "ok", 0.01)
    assert value(metrics, "wavekv_exchanges_total", peer="a", result="ok") == 2
    assert value(metrics, "wavekv_exchanges_total", peer="other", result="other") == 2
    assert value(metrics, "wavekv_exchanges_total", peer="c", result="ok") is None
    assert value(metrics, "wavekv_operations_total", plane="other", kind="other", result="other") == 2


def test_a_scrape_shows_every_family_of_the_table_with_its_help_and_type(metrics: Metrics) -> None:
    body, _ = metrics.exposition("")
    shown = {family.name: (family.type, family.documentation) for family in parse_text(body.decode())}
    for family in FAMILIES:
        assert shown[family.name.removesuffix("_total")] == (family.kind, family.help)


def test_process_and_collector_metrics_are_exposed(metrics: Metrics) -> None:
    assert value(metrics, "process_resident_memory_bytes")
    assert value(metrics, "python_gc_collections_total", generation="0") is not None


def test_two_members_in_one_process_do_not_share_counts(metrics: Metrics) -> None:
    metrics.propagated(0.1)
    assert value(Metrics(), "wavekv_propagation_seconds_count") == 0


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=abc", "text/html, text/plain;version=0.0.4;q=0.3"])
def test_plain_text_is_the_answer_to_whoever_does_not_ask_for_openmetrics(metrics: Metrics, accept: str) -> None:
    assert metrics.exposition(accept)[1].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("version", ["", ";version=1.0.0", ";version=broken;escaping=broken"])
def test_openmetrics_is_served_on_request(metrics: Metrics, version: str) -> None:
    metrics.bind(status)
    metrics.operation("http", "get", "ok", 0.001)
    body, content_type = metrics.exposition(f"application/openmetrics-text{version}, text/plain;q=0.1")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(body.decode())}
    assert {family.name.removesuffix("_total") for family in COUNTED} <= names
