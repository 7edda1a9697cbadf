"""What the end-to-end tests share: one cluster, one installed operator, one WaveKVCluster with applications, figures.

Installing comes first, because it wants a Kubernetes without an operator; everything else uses what it left.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.clusters import Cluster
from tests.e2e.environments import ROOT, Environment, Unavailable, environment
from tests.e2e.kubectl import Kubernetes

SYSTEM = "wavekv-system"
RELEASE = "wavekv-operator"
DEFINITION = "wavekvclusters.wavekv.io"
NAMESPACES = ("wavekv-demo", "wavekv-example", "wavekv-identities", "wavekv-install", "wavekv-refusals")
"""Made by the tests; what is in them is removed."""
FIGURES = ROOT / ".cache" / "e2e-figures.json"
_ORDER = (
    "test_install",
    "test_example",
    "test_planes",
    "test_faults",
    "test_identities",
    "test_scaling",
    "test_refusals",
    "test_figures",
)

Images = Mapping[str, tuple[str, str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/e2e" in item.path.as_posix()]
    for item in here:
        item.add_marker(pytest.mark.e2e)
    others = [item for item in items if item not in here]
    items[:] = others + sorted(here, key=lambda item: _ORDER.index(item.path.stem))


@dataclass
class Figures:
    """What was measured on the way."""

    values: dict[str, Any] = field(default_factory=dict)


_FIGURES = Figures()
_BEGAN = time.monotonic()


@pytest.fixture(scope="session")
def figures() -> Figures:
    return _FIGURES


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _FIGURES.values:
        return
    _FIGURES.values["this run, s"] = round(time.monotonic() - _BEGAN)
    terminalreporter.section("figures")
    for name, value in _FIGURES.values.items():
        terminalreporter.line(f"{name}: {value}")
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(_FIGURES.values, indent=1) + "\n")


@pytest.fixture(scope="session")
def cluster_environment(request: pytest.FixtureRequest) -> Environment:
    try:
        return environment()
    except Unavailable as why:
        required = os.environ.get("WAVEKV_E2E_REQUIRED") == "1"
        if all(item.get_closest_marker("e2e") for item in request.session.items):  # one line instead of one for each
            pytest.exit(f"a cluster is required: {why}" if required else f"skipped: {why}", 1 if required else 0)
        if required:
            pytest.fail(f"a cluster is required: {why}", pytrace=False)
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def kubernetes(cluster_environment: Environment) -> Kubernetes:
    found = Kubernetes(cluster_environment)
    if cluster_environment.name == "given":
        spare_others(found)
    return found


def spare_others(kubernetes: Kubernetes) -> None:
    """Refuse to touch a Kubernetes where others use WaveKV: the tests delete the definition, and all of it with it."""
    listed = kubernetes.list("deployment", None, "app.kubernetes.io/name=wavekv-operator")
    if kubernetes.get("crd", DEFINITION) is not None:
        listed += kubernetes.list("wkv", None)
    foreign = {item["metadata"]["namespace"] for item in listed} - {SYSTEM, *NAMESPACES}
    if foreign:
        pytest.exit(f"KUBECONFIG names a cluster whose WaveKV others use, in {', '.join(sorted(foreign))}", 1)


@pytest.fixture(scope="session")
def images(cluster_environment: Environment, figures: Figures) -> Images:
    """Repository and tag of both images, by target; they are in the cluster."""
    try:
        made = cluster_environment.images()
    except Unavailable as why:
        pytest.fail(f"the images cannot be had: {why}", pytrace=False)
    for target, size in cluster_environment.image_bytes().items():
        figures.values[f"{target} image, MB uncompressed"] = round(size / 1e6)
    return made


@pytest.fixture(scope="session")
def member_image(images: Images) -> str:
    return ":".join(images["sidecar"])


def chart_flags(images: Images) -> list[str]:
    """The values with which the chart is installed."""
    flags = []
    for value, target in (("image", "operator"), ("memberImage", "sidecar")):
        repository, tag = images[target]
        flags += ["--set", f"{value}.repository={repository}", "--set", f"{value}.tag={tag}"]
    return [*flags, "--set", "resyncSeconds=5", "--set", "watchAllNamespaces=true"]


@pytest.fixture(scope="session")
def operator(kubernetes: Kubernetes, images: Images) -> str:
    """The Deployment of an installed operator: whatever is there, else the chart's."""
    found = kubernetes.list("deployment", SYSTEM, "app.kubernetes.io/name=wavekv-operator")
    if not found:
        chart = str(ROOT / "charts" / "wavekv-operator")
        flags = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "3m", *chart_flags(images)]
        kubernetes.helm("install", RELEASE, chart, *flags)
        found = kubernetes.list("deployment", SYSTEM, "app.kubernetes.io/name=wavekv-operator")
    name: str = found[0]["metadata"]["name"]
    return name


def fresh_namespace(kubernetes: Kubernetes, name: str) -> str:
    """Return a namespace that holds nothing: what an earlier run left is removed first."""
    if kubernetes.get("namespace", name) is not None:
        kubernetes.run("delete", "namespace", name, "--wait", "--timeout=150s")
    return kubernetes.make_namespace(name)


@pytest.fixture(scope="session")
def demo(kubernetes: Kubernetes, operator: str, member_image: str, figures: Figures) -> Cluster:
    """Three members beside applications of another user, settled."""
    cluster = Cluster(kubernetes, fresh_namespace(kubernetes, "wavekv-demo"), "demo")
    began = time.monotonic()
    kubernetes.apply(cluster.manifest(3, application=member_image))
    cluster.wait_condition("Ready", "True", "AllMembersReady")
    figures.values["apply to Ready, s (3 members with applications)"] = round(time.monotonic() - began, 1)
    cluster.wait_settled(3)
    return cluster


@pytest.fixture(scope="session")
def filled(demo: Cluster) -> Cluster:
    """The cluster with the Public Suffix List in it: as `test_example` leaves it, or imported here."""
    if not demo.export(0):
        demo.import_rules(0)
    return demo


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add what a person would look at to the report of a test that failed."""
    outcome: Any = yield
    report = outcome.get_result()
    kubernetes = getattr(item, "funcargs", {}).get("kubernetes")
    if report.failed and isinstance(kubernetes, Kubernetes):
        demo = getattr(item, "funcargs", {}).get("demo")
        namespaces = {SYSTEM, *([demo.namespace] if demo else ()), *getattr(item.module, "NAMESPACES", ())}
        report.sections.append(("cluster", kubernetes.diagnosis(sorted(namespaces))))
