"""What is refused, where, and that the words name the field."""

import json

import pytest

from tests.e2e.clusters import Cluster
from tests.e2e.conftest import fresh_namespace
from tests.e2e.kubectl import Kubernetes

NAMESPACES = ("wavekv-refusals",)


@pytest.fixture(scope="module")
def cluster(kubernetes: Kubernetes, operator: str) -> Cluster:
    return Cluster(kubernetes, fresh_namespace(kubernetes, "wavekv-refusals"), "refused")


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"replicas": 0}, "spec.replicas"),
        ({"replicas": 1001}, "spec.replicas"),
        ({"storage": {"size": "much"}}, "spec.storage.size"),
        ({"storage": {"whenDeleted": "Perhaps"}}, "spec.storage.whenDeleted"),
        ({"member": {"fsyncMode": "never"}}, "spec.member.fsyncMode"),
        ({"member": {"gossipIntervalMs": 1}}, "spec.member.gossipIntervalMs"),
        ({"template": {"spec": {}}}, "spec.template.spec.containers"),
        ({"template": {"spec": {"containers": [{"image": "x"}]}}}, "spec.template.spec.containers[0].name"),
        ({"replica": 3}, "spec.replica"),
    ],
)
def test_an_invalid_resource_is_refused_with_its_fields_name(
    cluster: Cluster, spec: dict[str, object], named: str
) -> None:
    manifest = cluster.manifest()
    manifest["spec"] |= spec
    assert named in cluster.kubernetes.refused("create", "-f", "-", stdin=json.dumps(manifest))


@pytest.mark.parametrize("name", ["with.a.dot", "x" * 47, "shop-peers"])
def test_a_name_that_pods_cannot_have_is_refused(cluster: Cluster, name: str) -> None:
    manifest = cluster.manifest()
    manifest["metadata"]["name"] = name
    assert "metadata.name" in cluster.kubernetes.refused("create", "-f", "-", stdin=json.dumps(manifest))


def test_a_volume_does_not_change_its_size_or_class(demo: Cluster, kubernetes: Kubernetes) -> None:
    for patch, named in (({"size": "2Gi"}, "spec.storage.size"), ({"storageClassName": "x"}, "spec.storage")):
        body = json.dumps({"spec": {"storage": patch}})
        said = kubernetes.refused("patch", "wkv", "demo", "-n", demo.namespace, "--type=merge", "-p", body)
        assert named in said


def test_a_service_of_somebody_else_is_not_taken_over(
    cluster: Cluster, kubernetes: Kubernetes, member_image: str
) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken", "namespace": cluster.namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": ports},
    }
    kubernetes.apply(theirs)
    taken = Cluster(kubernetes, cluster.namespace, "taken")
    manifest = taken.manifest(1, application=member_image)
    manifest["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
    kubernetes.apply(manifest)
    assert "spec.selector" in taken.wait_condition("Progressing", "True", "ReconcileFailed")
    service = kubernetes.get("service", "taken", cluster.namespace)
    assert service is not None
    assert service["spec"]["selector"] == {"app": "theirs"}
    assert "ownerReferences" not in service["metadata"]

    kubernetes.run("delete", "service", "taken", "-n", cluster.namespace)
    taken.wait_settled(1)
    kubernetes.run("delete", "wkv", "taken", "-n", cluster.namespace)


def test_a_template_with_host_access_is_refused_in_the_condition(
    cluster: Cluster, kubernetes: Kubernetes, member_image: str
) -> None:
    manifest = cluster.manifest(1, application=member_image)
    manifest["spec"]["template"]["spec"]["hostNetwork"] = True
    kubernetes.apply(manifest)
    message = cluster.wait_condition("Accepted", "False", "TemplateRefused")
    assert message.startswith("spec.template.spec.hostNetwork")
    assert kubernetes.get("statefulset", cluster.name, cluster.namespace) is None

    del manifest["spec"]["template"]["spec"]["hostNetwork"]
    kubernetes.apply(manifest)
    cluster.wait_settled(1)
    kubernetes.run("delete", "wkv", cluster.name, "-n", cluster.namespace)
    kubernetes.run("delete", "namespace", cluster.namespace, "--wait=false")
