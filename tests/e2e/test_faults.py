"""What breaks: a member's process, pods, the operator. Nothing acknowledged is lost, names and volumes come back."""

import pytest

from tests.e2e.clusters import Cluster
from tests.e2e.conftest import SYSTEM
from tests.e2e.kubectl import Kubernetes

pytestmark = pytest.mark.usefixtures("filled")


def identities(demo: Cluster) -> dict[str, tuple[int, str]]:
    """Return node id and uuid of each member's volume."""
    return {item["name"]: (item["nodeId"], item["uuid"]) for item in demo.resource["status"]["members"]}


def test_a_killed_member_comes_back_with_all_it_acknowledged(demo: Cluster, member_image: str) -> None:
    known, restarts = identities(demo), demo.restarts(1)
    demo.put(1, "fault/killed", "acknowledged")
    demo.kill_member(1, member_image)
    demo.kubernetes.eventually(lambda: demo.restarts(1) == restarts + 1, 60, "the member's container was started anew")
    demo.wait_settled(3)
    assert demo.get(1, "fault/killed") == b"acknowledged"
    demo.wait_rules(1)
    assert identities(demo) == known


def test_a_deleted_pod_comes_back_under_its_name_with_its_volume(demo: Cluster) -> None:
    known = identities(demo)
    demo.put(2, "fault/deleted", "acknowledged")
    demo.replace_pods(2)
    demo.wait_settled(3)
    assert demo.get(2, "fault/deleted") == b"acknowledged"
    demo.wait_rules(2)
    assert identities(demo) == known


def test_all_pods_deleted_at_once_lose_nothing(demo: Cluster) -> None:
    known = identities(demo)
    for ordinal in range(3):
        demo.put(ordinal, f"fault/all/{ordinal}", "acknowledged")
    demo.replace_pods(0, 1, 2)
    demo.wait_settled(3)
    for ordinal in range(3):
        for reader in range(3):
            demo.wait_value(reader, f"fault/all/{ordinal}", "acknowledged")
    demo.wait_rules(0)
    assert identities(demo) == known


def test_writes_arrive_while_the_operator_is_gone_and_a_member_is_down(
    demo: Cluster, kubernetes: Kubernetes, operator: str
) -> None:
    kubernetes.run("scale", "deployment", operator, "-n", SYSTEM, "--replicas=0")
    kubernetes.run("wait", "pod", "-l", "app.kubernetes.io/name=wavekv-operator", "-n", SYSTEM, "--for=delete")
    shown = demo.certificate(2)
    kubernetes.run("delete", "pod", demo.pod(2), "-n", demo.namespace, "--wait=false")
    demo.put(0, "fault/operator", "written without it")
    demo.wait_value(1, "fault/operator", "written without it")
    kubernetes.run("wait", "pod", demo.pod(2), "-n", demo.namespace, "--for=condition=Ready", "--timeout=120s")
    demo.wait_value(2, "fault/operator", "written without it")
    assert demo.certificate(2) == shown, "nobody was there to give another"
    kubernetes.run("scale", "deployment", operator, "-n", SYSTEM, "--replicas=1")
    kubernetes.run("rollout", "status", f"deployment/{operator}", "-n", SYSTEM, "--timeout=120s")
    demo.wait_settled(3)
