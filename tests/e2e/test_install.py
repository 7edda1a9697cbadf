"""Every way in: chart, manifests, a definition that was there before; and custom resources survive every way out."""

import re

import pytest
import yaml

from tests.e2e.clusters import Cluster
from tests.e2e.conftest import DEFINITION, RELEASE, SYSTEM, Images, chart_flags, fresh_namespace
from tests.e2e.environments import ROOT
from tests.e2e.kubectl import CommandFailed, Kubernetes, condition

CHART = str(ROOT / "charts" / "wavekv-operator")
NAMESPACES = ("wavekv-install",)
OTHER_RELEASE = "second-operator"
NAMED = [
    *("--set", "image.repository=r/o", "--set", "memberImage.repository=r/s", "--set", "watchAllNamespaces=true"),
]
"""The least that the chart has to be told."""


@pytest.fixture(scope="module")
def bare(kubernetes: Kubernetes) -> Cluster:
    """A cluster without applications, made by the first test that has an operator."""
    return Cluster(kubernetes, "wavekv-install", "bare")


def uninstall_all(kubernetes: Kubernetes) -> None:
    """Remove every operator that an earlier run left; the definition stays."""
    kubernetes.make_namespace(SYSTEM)
    releases = yaml.safe_load(kubernetes.helm("list", "--all", "-n", SYSTEM, "-o", "json")) or []
    for release in releases:
        kubernetes.helm("uninstall", release["name"], "-n", SYSTEM, "--wait")
    kubernetes.run("delete", "deployment", "-n", SYSTEM, "--all", "--wait")


def wait_operator(kubernetes: Kubernetes, name: str) -> None:
    kubernetes.run("rollout", "status", f"deployment/{name}", "-n", SYSTEM, "--timeout=150s")


def install_manifest(images: Images) -> str:
    """Return manifests/install.yaml with the images put in, as the docs tell users to."""
    text = (ROOT / "manifests" / "install.yaml").read_text(encoding="utf-8")
    for target in ("operator", "sidecar"):
        text = re.sub(rf"REGISTRY/wavekv-{target}:[\w.-]+", ":".join(images[target]), text)
    return text


def install_flags(images: Images) -> list[str]:
    return ["--namespace", SYSTEM, "--wait", "--timeout", "3m", *chart_flags(images)]


def read_kept(bare: Cluster, ordinal: int) -> bytes:
    return bare.kubernetes.in_pod(bare.namespace, bare.pod(ordinal), "wavekv", "wavekv", "get", "kept")


def test_the_committed_manifests_are_what_the_chart_renders(kubernetes: Kubernetes) -> None:
    kubernetes.helm("lint", CHART, "--strict", *NAMED)
    rendered = kubernetes.helm(
        "template", RELEASE, CHART, "--namespace", SYSTEM, "--kube-version", "1.29.0",
        "--set", "image.repository=REGISTRY/wavekv-operator", "--set", "memberImage.repository=REGISTRY/wavekv-sidecar",
        "--set", "watchAllNamespaces=true",
    )  # fmt: skip
    committed = list(yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text(encoding="utf-8")))
    wanted = [document for document in yaml.safe_load_all(rendered) if document]
    assert [document for document in committed if document and document["kind"] != "Namespace"] == wanted


def test_the_manifests_alone_make_a_cluster_ready(kubernetes: Kubernetes, images: Images, bare: Cluster) -> None:
    uninstall_all(kubernetes)
    fresh_namespace(kubernetes, bare.namespace)
    kubernetes.run("delete", "crd", DEFINITION, "--ignore-not-found", "--wait")
    kubernetes.run("apply", "-f", "-", stdin=install_manifest(images))
    # `kubectl wait` fails on a definition so new that it has no conditions.
    kubernetes.eventually(
        lambda: condition(kubernetes.get("crd", DEFINITION), "Established")[0] == "True", 60, "the definition is served"
    )
    wait_operator(kubernetes, RELEASE)
    example = yaml.safe_load((ROOT / "manifests" / "examples" / "bare.yaml").read_text(encoding="utf-8"))
    assert example["metadata"]["name"] == bare.name
    example["metadata"]["namespace"] = bare.namespace
    kubernetes.apply(example)
    bare.wait_settled(3)
    kubernetes.in_pod(bare.namespace, bare.pod(0), "wavekv", "wavekv", "put", "kept", "from the start")


def test_the_chart_takes_over_a_definition_that_kubectl_made(
    kubernetes: Kubernetes, images: Images, bare: Cluster
) -> None:
    without_definition = [
        document for document in yaml.safe_load_all(install_manifest(images))
        if document and document["kind"] not in {"CustomResourceDefinition", "Namespace"}
    ]  # fmt: skip
    kubernetes.run("delete", "-f", "-", "--wait", stdin=yaml.safe_dump_all(without_definition))
    before = kubernetes.get("crd", DEFINITION)
    assert before is not None, "removing the operator left the definition"

    kubernetes.helm("install", RELEASE, CHART, *install_flags(images))

    after = kubernetes.get("crd", DEFINITION)
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "meta.helm.sh/release-name" not in after["metadata"].get("annotations", {})
    bare.wait_settled(3)


def test_the_chart_names_what_it_needs(kubernetes: Kubernetes) -> None:
    for flags, named in (
        (["--set", "watchAllNamespaces=true"], "make images"),
        ([*NAMED, "--set", "replicas=2"], "replicas"),
        ([*NAMED, "--set", "watchAllNamespaces=false"], "every Secret of the cluster"),
        ([*NAMED, "--set", "watchNamespaces={shop}"], "exclude each other"),
    ):
        with pytest.raises(CommandFailed, match=named):
            kubernetes.helm("template", RELEASE, CHART, "--kube-version", "1.29.0", *flags)


def test_the_chart_takes_a_fraction_as_helm_gives_it(kubernetes: Kubernetes) -> None:
    flags = ["--kube-version", "1.29.0", *NAMED, "--set", "certificateHours=0.5"]
    rendered = list(yaml.safe_load_all(kubernetes.helm("template", RELEASE, CHART, *flags)))
    (deployment,) = [document for document in rendered if document and document["kind"] == "Deployment"]
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "WAVEKV_CERTIFICATE_HOURS", "value": "0.5"} in variables


def test_an_operator_of_some_namespaces_has_roles_there_and_one_verb_beside_them(kubernetes: Kubernetes) -> None:
    images = ["--set", "image.repository=r/o", "--set", "memberImage.repository=r/s"]
    flags = ["--kube-version", "1.29.0", *images, "--set", "watchNamespaces={shop,other}"]
    rendered = [item for item in yaml.safe_load_all(kubernetes.helm("template", RELEASE, CHART, *flags)) if item]
    assert [item["metadata"]["namespace"] for item in rendered if item["kind"] == "Role"] == ["shop", "other"]
    (role,) = [item for item in rendered if item["kind"] == "ClusterRole"]
    review = {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    assert role["rules"] == [review]
    (bound,) = [item for item in rendered if item["kind"] == "ClusterRoleBinding"]
    assert bound["roleRef"]["name"] == role["metadata"]["name"]


def test_deleting_a_cluster_works_while_no_operator_runs(kubernetes: Kubernetes, bare: Cluster) -> None:
    (deployment,) = kubernetes.list("deployment", SYSTEM, "app.kubernetes.io/name=wavekv-operator")
    name = deployment["metadata"]["name"]
    kubernetes.run("scale", "deployment", name, "-n", SYSTEM, "--replicas=0")
    kubernetes.run("wait", "pod", "-l", "app.kubernetes.io/name=wavekv-operator", "-n", SYSTEM, "--for=delete")

    kubernetes.run("delete", "wkv", bare.name, "-n", bare.namespace, "--wait", "--timeout=30s")

    def children_gone() -> bool:
        kinds = "statefulset,pod,service,secret,configmap,poddisruptionbudget"
        return not kubernetes.list(kinds, bare.namespace, f"wavekv.io/cluster={bare.name}")

    kubernetes.eventually(children_gone, 120, "the children are collected")
    claims = kubernetes.list("pvc", bare.namespace, f"wavekv.io/cluster={bare.name}")
    assert {claim["metadata"]["name"] for claim in claims} >= {"wavekv-data-bare-0"}, "volumes stay"
    kubernetes.run("scale", "deployment", name, "-n", SYSTEM, "--replicas=1")
    wait_operator(kubernetes, name)


def test_the_chart_alone_makes_the_definition_and_a_cluster_made_again_finds_its_volumes(
    kubernetes: Kubernetes, images: Images, bare: Cluster
) -> None:
    uninstall_all(kubernetes)
    kubernetes.run("delete", "crd", DEFINITION, "--wait")
    kubernetes.helm("install", RELEASE, CHART, *install_flags(images))
    made = kubernetes.get("crd", DEFINITION)
    assert made is not None
    assert made["metadata"]["annotations"]["meta.helm.sh/release-name"] == RELEASE

    kubernetes.apply(bare.manifest(3))
    bare.wait_settled(3)
    for ordinal in range(3):
        assert read_kept(bare, ordinal) == b"from the start"


def test_custom_resources_survive_a_chart_that_goes_and_comes_under_another_name(
    kubernetes: Kubernetes, images: Images, bare: Cluster
) -> None:
    uid = bare.resource["metadata"]["uid"]
    kubernetes.helm("uninstall", RELEASE, "-n", SYSTEM, "--wait")
    assert bare.resource["metadata"]["uid"] == uid

    kubernetes.helm("install", OTHER_RELEASE, CHART, *install_flags(images))

    assert bare.resource["metadata"]["uid"] == uid
    bare.scale(1)
    bare.wait_settled(1)
    assert read_kept(bare, 0) == b"from the start"
    kubernetes.run("delete", "namespace", bare.namespace, "--wait=false")
