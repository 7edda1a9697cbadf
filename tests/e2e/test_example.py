"""The main job: an application writes on one pod's localhost, and another pod's application reads it all."""

import json

import yaml

from tests.e2e.clusters import APPLICATION_USER, PREFIX, Cluster, rules
from tests.e2e.conftest import Images, fresh_namespace
from tests.e2e.environments import ROOT
from tests.e2e.kubectl import Kubernetes, condition

NAMESPACES = ("wavekv-example",)


def test_the_public_suffix_list_written_on_pod_0_is_read_complete_on_pod_2(demo: Cluster) -> None:
    assert demo.run(0, "id", "-u").decode().strip() == str(APPLICATION_USER)
    demo.import_rules(0)
    demo.wait_rules(2)
    assert len(demo.export(2)) == len(rules()) > 10_000


def test_values_that_are_not_ascii_are_the_same_everywhere(demo: Cluster) -> None:
    key = f"{PREFIX}公司.cn"
    assert demo.get(1, key) == "公司.cn".encode()


def test_the_status_tells_how_the_cluster_stands(demo: Cluster) -> None:
    resource = demo.wait_settled(3)
    status = resource["status"]
    assert [member["name"] for member in status["members"]] == ["demo-0", "demo-1", "demo-2"]
    assert all(member["phase"] == "serving" and member["ready"] for member in status["members"])
    assert len({member["nodeId"] for member in status["members"]}) == 3
    assert [member["claim"] for member in status["members"]] == [f"wavekv-data-demo-{i}" for i in range(3)]
    assert condition(resource, "Accepted")[0] == "True"
    assert condition(resource, "Draining")[0] == condition(resource, "ScaleDownPrevented")[0] == "False"
    assert "finalizers" not in resource["metadata"]


def test_columns_show_what_matters(demo: Cluster, kubernetes: Kubernetes) -> None:
    head, line = kubernetes.run("get", "wkv", "demo", "-n", demo.namespace).splitlines()
    assert head.split() == ["NAME", "REPLICAS", "READY", "STATUS", "CONVERGED", "AGE"]
    assert line.split()[:5] == ["demo", "3", "3", "True", "True"]


def test_events_tell_the_story(demo: Cluster, kubernetes: Kubernetes) -> None:
    events = kubernetes.list("events.events.k8s.io", demo.namespace)
    reasons = {event["reason"] for event in events if event["regarding"].get("kind") == "WaveKVCluster"}
    assert {"AllMembersReady", "MembershipChanged"} <= reasons


def test_the_member_has_no_token_and_the_application_only_what_it_asks_for(demo: Cluster) -> None:
    for container in ("wavekv", demo.container):
        listed = demo.kubernetes.in_pod(
            demo.namespace, demo.pod(0), container, "sh", "-c", "ls /var/run/secrets/kubernetes.io 2>&1 || true"
        )
        assert b"serviceaccount" not in listed.replace(b"/var/run/secrets/kubernetes.io", b"")


def test_the_application_cannot_touch_the_members_files(demo: Cluster) -> None:
    said = demo.run(0, "sh", "-c", "ls /var/lib/wavekv /etc/wavekv 2>&1 || true")
    assert b"IDENTITY" not in said
    assert b"tls" not in said


def test_the_example_with_an_application_serves_its_members_state(
    kubernetes: Kubernetes, operator: str, images: Images
) -> None:
    text = (ROOT / "manifests" / "examples" / "application.yaml").read_text(encoding="utf-8")
    example = yaml.safe_load(text)
    (container,) = example["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("REGISTRY/wavekv-sidecar:")
    container["image"] = ":".join(images["sidecar"])
    cluster = Cluster(kubernetes, fresh_namespace(kubernetes, "wavekv-example"), example["metadata"]["name"])
    example["metadata"]["namespace"] = cluster.namespace
    kubernetes.apply(example)
    cluster.wait_settled(3)
    service = f"/api/v1/namespaces/{cluster.namespace}/services/{cluster.name}:http/proxy/"
    assert json.loads(kubernetes.run("get", "--raw", service))["phase"] == "serving"
    kubernetes.run("delete", "namespace", cluster.namespace, "--wait=false")
