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
    assert "Service taken exists" in taken.wait_condition("Accepted", "False", "ChildNotOurs")
    service = kubernetes.get("service", "taken", cluster.namespace)
    assert service is not None
    assert service["spec"]["selector"] == {"app": "theirs"}
    assert "ownerReferences" not in service["metadata"]

    kubernetes.run("delete", "service", "taken", "-n", cluster.namespace)
    taken.wait_settled(1)
    kubernetes.run("delete", "wkv", "taken", "-n", cluster.namespace)


@pytest.mark.parametrize("labelled", [False, True], ids=["unlabelled", "with the operator's labels"])
@pytest.mark.parametrize(
    ("kind", "suffix"), [("Secret", "ca"), ("Secret", "operator-tls"), ("ConfigMap", "membership")]
)
def test_a_secret_and_a_config_map_of_somebody_else_are_named_and_outlive_the_resource(
    cluster: Cluster, kubernetes: Kubernetes, kind: str, suffix: str, labelled: bool
) -> None:
    victim = Cluster(kubernetes, cluster.namespace, f"victim-{suffix[:2]}{kind[0].lower()}{int(labelled)}")
    name = f"{victim.name}-{suffix}"
    labels = {"app.kubernetes.io/managed-by": "wavekv-operator", "wavekv.io/cluster": victim.name} if labelled else {}
    data = {"password": "dGhlaXJz"}
    metadata = {"name": name, "namespace": cluster.namespace, "labels": labels}
    kubernetes.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data})
    before = kubernetes.get(kind, name, cluster.namespace)
    kubernetes.apply(victim.manifest(1))

    assert f"{kind} {name} exists" in victim.wait_condition("Accepted", "False", "ChildNotOurs")

    kubernetes.run("delete", "wkv", victim.name, "-n", cluster.namespace, "--wait", "--timeout=30s")
    selector = f"wavekv.io/cluster={victim.name}"

    def collected() -> bool:
        return {
            item["metadata"]["name"] for item in kubernetes.list("secret,configmap", cluster.namespace, selector)
        } <= {name}

    kubernetes.eventually(collected, 60, "what was made for the resource is collected")
    assert kubernetes.get(kind, name, cluster.namespace) == before
    kubernetes.run("delete", kind.lower(), name, "-n", cluster.namespace)


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
