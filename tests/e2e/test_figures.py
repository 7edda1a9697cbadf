"""Figures of a cluster at rest: what the operator needs and asks for while nothing happens."""

import time
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.clusters import Cluster
from tests.e2e.conftest import SYSTEM, Figures
from tests.e2e.kubectl import Kubernetes

QUIET_SECONDS = 60


def scrape(kubernetes: Kubernetes) -> dict[str, float]:
    """Return the operator's samples, summed by name."""
    (pod,) = kubernetes.list("pod", SYSTEM, "app.kubernetes.io/name=wavekv-operator")
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(kubernetes.run("get", "--raw", path)):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def test_a_quiet_cluster_asks_little_of_the_api(demo: Cluster, kubernetes: Kubernetes, figures: Figures) -> None:
    demo.wait_settled(3)
    before: Any = scrape(kubernetes)
    time.sleep(QUIET_SECONDS)
    after = scrape(kubernetes)
    requests = after["wavekv_operator_api_requests_total"] - before["wavekv_operator_api_requests_total"]
    figures.values["operator's API requests in a quiet minute"] = round(requests)
    figures.values["operator's resident memory, MB"] = round(after["process_resident_memory_bytes"] / 1e6)
    errors = "wavekv_operator_api_errors_total"
    assert after.get(errors, 0) == before.get(errors, 0), "a kind of error has a sample from its first time on"
    # One list of each of eight kinds is what the check of the watches costs, once or twice; nothing is written.
    assert requests <= 16
