"""Who is which member: tokens of pods as a real API knows them, and volumes that are copied under another name."""

import json
from typing import Any

import pytest
from cryptography import x509

from tests.e2e.clusters import TLS, Cluster
from tests.e2e.conftest import fresh_namespace
from tests.e2e.kubectl import Kubernetes, Object, condition
from wavekv_operator import enrolment, names
from wavekv_operator.errors import EnrolmentRefused

NAMESPACES = ("wavekv-identities",)
_TOKEN = f"{names.TLS_MOUNT}/{names.ENROL_TOKEN_FILE}"
_READ = "import sys; sys.stdout.write(open(sys.argv[1]).read())"
_DIGEST = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
_COPY = "import shutil; shutil.copytree('/from/member', '/to/member', dirs_exist_ok=True)"


def in_member(cluster: Cluster, ordinal: int, script: str, *arguments: str) -> str:
    """Return what a Python script prints in the member's container."""
    command = ("/opt/wavekv/bin/python", "-c", script, *arguments)
    return cluster.kubernetes.in_pod(cluster.namespace, cluster.pod(ordinal), "wavekv", *command).decode()


def applicant(cluster: Cluster, ordinal: int) -> enrolment.Applicant:
    pod = cluster.kubernetes.get("pod", cluster.pod(ordinal), cluster.namespace)
    assert pod is not None
    return enrolment.applicant(names.cluster_id(cluster.namespace, cluster.name), cluster.name, pod, "cluster.local")


def review(kubernetes: Kubernetes, token: str, audience: str) -> Any:
    """Return what the API server says of a token."""
    spec = {"token": token, "audiences": [audience]}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    return json.loads(kubernetes.run("create", "-f", "-", "-o", "json", stdin=json.dumps(body)))["status"]


def test_a_pods_token_proves_this_pod_and_no_other(demo: Cluster, kubernetes: Kubernetes) -> None:
    first, second = applicant(demo, 0), applicant(demo, 1)
    said = review(kubernetes, in_member(demo, 0, _READ, _TOKEN), first.audience)
    enrolment.check_token(first, said)
    with pytest.raises(EnrolmentRefused, match="not of its pod"):
        enrolment.check_token(second, said)


def test_a_token_for_another_audience_proves_nothing(demo: Cluster, kubernetes: Kubernetes) -> None:
    who = applicant(demo, 0)
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", demo.pod(0), "--bound-object-uid", who.pod_uid)
    for audience in ("https://kubernetes.default.svc", names.enrolment_audience("another")):
        token = kubernetes.run("create", "token", "default", "-n", demo.namespace, "--audience", audience, *bound)
        with pytest.raises(EnrolmentRefused):
            enrolment.check_token(who, review(kubernetes, token.strip(), who.audience))


def test_the_api_does_not_take_a_members_token(demo: Cluster, kubernetes: Kubernetes) -> None:
    token = in_member(demo, 0, _READ, _TOKEN)
    said = review(kubernetes, token, "https://kubernetes.default.svc.cluster.local")
    assert said.get("authenticated") is not True


def test_no_other_container_of_the_pod_sees_the_key_or_the_token(demo: Cluster) -> None:
    script = "import os, sys; print([path for path in sys.argv[1:] if os.path.exists(path)])"
    out = demo.run(0, "python", "-c", script, _TOKEN, TLS).decode().strip()
    assert out == "[]"
    assert in_member(demo, 0, script, _TOKEN, TLS).strip() == str([_TOKEN, TLS])


def test_a_volume_copied_under_another_name_gets_a_certificate_of_its_own(
    kubernetes: Kubernetes, operator: str, member_image: str
) -> None:
    cluster = Cluster(kubernetes, fresh_namespace(kubernetes, "wavekv-identities"), "copied")
    kubernetes.apply(cluster.manifest(1, application=member_image))
    cluster.wait_settled(1)
    cluster.put(0, "copied/key", "value")
    key = in_member(cluster, 0, _DIGEST, f"{TLS}/key.pem")

    copy_volume(cluster, member_image)
    cluster.scale(2)
    cluster.wait_settled(2)

    own = in_member(cluster, 1, _DIGEST, f"{TLS}/key.pem")
    assert own != key
    sans = cluster.certificate(1).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = names.member_uri(names.cluster_id(cluster.namespace, cluster.name), cluster.pod(1))
    assert sans.get_values_for_type(x509.UniformResourceIdentifier) == [wanted]
    assert condition(cluster.resource, "TLSReady")[0] == "True"
    cluster.wait_value(1, "copied/key", "value")
    kubernetes.run("delete", "wkv", cluster.name, "-n", cluster.namespace)
    kubernetes.run("delete", "namespace", cluster.namespace, "--wait=false")


def copy_volume(cluster: Cluster, image: str) -> None:
    """Make the second member's claim beforehand, with all that is on the first one's."""
    kubernetes, source = cluster.kubernetes, names.claim(cluster.pod(0))
    claim: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.claim(cluster.pod(1)),
            "namespace": cluster.namespace,
            "labels": names.labels(cluster.name),
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": claimed}}
        for name, claimed in (("from", source), ("to", claim["metadata"]["name"]))
    ]
    container = {
        "name": "copy",
        "image": image,
        "command": ["python", "-c", _COPY],
        "volumeMounts": [{"name": "from", "mountPath": "/from"}, {"name": "to", "mountPath": "/to"}],
    }
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "copy", "namespace": cluster.namespace},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": names.USER, "runAsGroup": names.USER, "fsGroup": names.USER},
            "containers": [container],
            "volumes": volumes,
        },
    }
    kubernetes.apply(claim, pod)

    def ended() -> bool:
        found = kubernetes.get("pod", "copy", cluster.namespace)
        return ((found or {}).get("status") or {}).get("phase") == "Succeeded"

    kubernetes.eventually(ended, 90, "the volume is copied")
    kubernetes.run("delete", "pod", "copy", "-n", cluster.namespace, "--wait")
