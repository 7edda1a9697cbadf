"""The operator's Prometheus families, listed in docs/metrics.md; its only module that knows prometheus_client."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from wavekv_operator import __version__

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counts what the operator does, on a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        build = Gauge("wavekv_operator_build_info", "Always 1; the version is a label.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self._reconciles = Counter(
            "wavekv_operator_reconciles", "Passes over a cluster, by result.", ["result"], registry=registry
        )
        self._duration = Histogram(
            "wavekv_operator_reconcile_duration_seconds", "Time of one pass.", buckets=_SECONDS, registry=registry
        )
        self._last_success = Gauge(
            "wavekv_operator_last_success_timestamp_seconds",
            "When a cluster was last gone over without a failure.",
            ["namespace", "name"],
            registry=registry,
        )
        self._clusters = Gauge("wavekv_operator_clusters", "Clusters known.", registry=registry)
        self._requests = Counter(
            "wavekv_operator_api_requests",
            "Requests to the Kubernetes API, watches excepted, by verb, kind and status code.",
            ["verb", "kind", "code"],
            registry=registry,
        )
        self._errors = Counter(
            "wavekv_operator_api_errors",
            "Requests to the Kubernetes API that were refused or not answered.",
            ["kind", "code"],
            registry=registry,
        )
        self._members = Counter(
            "wavekv_operator_member_requests",
            "Requests to members, by result; unverified: who answered showed no certificate of that member.",
            ["result"],
            registry=registry,
        )
        self._events = Counter(
            "wavekv_operator_watch_events", "Events that the watches brought, by kind.", ["kind"], registry=registry
        )
        self._deaf = Gauge(
            "wavekv_operator_watch_deaf",
            "1 for a kind whose watch misses changes that the API knows of.",
            ["kind"],
            registry=registry,
        )

    def reconciled(self, key: tuple[str, str], result: str, seconds: float, at: float) -> None:
        """Count one pass; `at` is a unix time."""
        self._reconciles.labels(result).inc()
        self._duration.observe(seconds)
        if result == "success":
            self._last_success.labels(*key).set(at)

    def clusters(self, count: int) -> None:
        """Say how many clusters there are."""
        self._clusters.set(count)

    def forget(self, key: tuple[str, str]) -> None:
        """Drop the samples of a cluster that is gone."""
        self._last_success.remove(*key)

    def api_request(self, verb: str, kind: str, code: str) -> None:
        """Count one request to the API."""
        self._requests.labels(verb, kind, code).inc()
        if not code.startswith("2"):
            self._errors.labels(kind, code).inc()

    def member_request(self, result: str) -> None:
        """Count one request to a member: `ok`, `refused`, `unverified` or `unreachable`."""
        self._members.labels(result).inc()

    def watch_event(self, kind: str) -> None:
        """Count one event of a watch."""
        self._events.labels(kind).inc()

    def watch_deaf(self, kind: str, deaf: bool) -> None:
        """Say whether the watch of a kind misses changes."""
        self._deaf.labels(kind).set(deaf)

    def exposition(self) -> tuple[bytes, str]:
        """Return the text format and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
