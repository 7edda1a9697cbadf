"""Members come and go, volumes are lost: every key stays."""

import pytest

from tests.e2e.clusters import Cluster
from tests.e2e.kubectl import Kubernetes

pytestmark = pytest.mark.usefixtures("filled")


def test_scaling_keeps_every_key(demo: Cluster) -> None:
    demo.scale(5)
    demo.wait_settled(5)
    demo.wait_rules(4)
    demo.put(4, "scale/from-4", "written on a member that leaves")
    demo.put(3, "scale/from-3", "written on a member that leaves")

    demo.scale(2)
    demo.wait_settled(2)
    for key in ("scale/from-4", "scale/from-3"):
        demo.wait_value(0, key, "written on a member that leaves")
        demo.wait_value(1, key, "written on a member that leaves")
    demo.put(0, "scale/while-2", "written while they were gone")
    demo.run(1, "wavekv", "delete", "scale/from-3")

    demo.scale(4)
    demo.wait_settled(4)
    for ordinal in (2, 3):
        demo.wait_rules(ordinal)
        demo.wait_value(ordinal, "scale/while-2", "written while they were gone")
        assert demo.get(ordinal, "scale/from-3") is None, "what was deleted meanwhile stays deleted"
    demo.scale(3)
    demo.wait_settled(3)


def test_the_scale_subresource_selects_the_pods(demo: Cluster, kubernetes: Kubernetes) -> None:
    selector = demo.resource["status"]["selector"]
    assert len(kubernetes.list("pod", demo.namespace, selector)) == 3


def test_a_member_whose_claim_was_deleted_returns_as_a_new_node_and_catches_up(
    demo: Cluster, kubernetes: Kubernetes
) -> None:
    before = demo.member(1)
    kubernetes.run("delete", "pvc", before["claim"], "-n", demo.namespace, "--wait=false")
    demo.replace_pods(1)

    def replaced() -> bool:
        found = demo.member(1)
        return found.get("nodeId") not in {None, before["nodeId"]} and found["phase"] == "serving"

    kubernetes.eventually(replaced, 150, "demo-1 serves under a new node id")
    demo.wait_settled(3)
    demo.wait_rules(1)
    events = kubernetes.list("events.events.k8s.io", demo.namespace)
    assert "VolumeReplaced" in {event["reason"] for event in events}
