"""Chart, rendered manifest, examples, Dockerfile and locks agree with the code and with each other, without Helm.

That the committed rendering is the chart's present one needs Helm, and is checked where the cluster is (`make e2e`).
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from wavekv_operator import __version__, crd, names
from wavekv_operator.__main__ import run
from wavekv_operator.resources.template_checks import check_template
from wavekv_operator.spec import read_cluster

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "wavekv-operator"
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))
Object = dict[str, Any]


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def install() -> dict[str, Object]:
    """Return the objects of the rendered manifest by kind; there is one of each."""
    objects = [found for found in yaml.safe_load_all(text("manifests/install.yaml")) if found]
    kinds = {found["kind"]: found for found in objects}
    assert len(kinds) == len(objects)
    return kinds


@pytest.fixture(scope="module")
def values() -> Object:
    found: Object = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def project() -> Object:
    return tomllib.loads(text("pyproject.toml"))


def pod(install: dict[str, Object]) -> Object:
    found: Object = install["Deployment"]["spec"]["template"]["spec"]
    return found


# ---- versions, images, the definition --------------------------------------------------------------------------------


def test_there_is_one_version(project: Object) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == project["project"]["version"] == __version__


def test_manifests_name_the_images_that_are_built_in_this_version(install: dict[str, Object]) -> None:
    targets = re.findall(r"^FROM runtime AS (\w+)$", text("Dockerfile"), re.MULTILINE)
    named = set(re.findall(r"REGISTRY/([\w-]+:[\w.]+)", text("manifests/install.yaml")))
    assert named == {f"wavekv-{target}:{__version__}" for target in targets}
    for example in EXAMPLES:
        assert set(re.findall(r"REGISTRY/([\w-]+:[\w.]+)", example.read_text())) <= named
    assert pod(install)["containers"][0]["image"] == f"REGISTRY/wavekv-operator:{__version__}"


def test_the_manifest_holds_the_definition_and_keeps_it(install: dict[str, Object]) -> None:
    definition = install["CustomResourceDefinition"]
    assert definition["spec"] == crd.crd()["spec"]
    assert definition["metadata"]["name"] == crd.CRD_NAME
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


# ---- rights ----------------------------------------------------------------------------------------------------------


def chart_rules(name: str = "rules") -> list[Object]:
    template = (CHART / "templates" / "_names.tpl").read_text(encoding="utf-8")
    body = re.search(rf'define "wavekv-operator.{name}" -}}}}\n(.*?)\n{{{{- end', template, re.DOTALL)
    assert body is not None
    rules: list[Object] = yaml.safe_load(body[1])
    return rules


def granted(rules: list[Object]) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


SEEN, MADE = {"list", "watch"}, {"create", "patch"}
RIGHTS = {
    (names.GROUP, names.PLURAL): SEEN,
    (names.GROUP, f"{names.PLURAL}/status"): {"patch"},
    ("apps", "statefulsets"): SEEN | MADE,
    ("", "configmaps"): SEEN | MADE,
    ("", "secrets"): SEEN | MADE,
    ("", "services"): SEEN | MADE | {"delete"},
    ("policy", "poddisruptionbudgets"): SEEN | MADE | {"delete"},
    ("", "pods"): SEEN,
    ("", "persistentvolumeclaims"): SEEN,
    ("events.k8s.io", "events"): {"create"},
}
"""All that the operator may do where it serves clusters. Whoever widens it says so here and in docs/kubernetes.md."""
RIGHTS_WITHOUT_NAMESPACE = {
    ("authentication.k8s.io", "tokenreviews"): {"create"},
}
RIGHTS_CLUSTER_WIDE = {
    ("apiextensions.k8s.io", "customresourcedefinitions"): {"list", "watch"},
}


def test_rights_are_those_of_the_table() -> None:
    assert granted(chart_rules()) == RIGHTS
    assert granted(chart_rules("tokenReviews")) == RIGHTS_WITHOUT_NAMESPACE
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in chart_rules()), "no names can be given"


def test_a_cluster_wide_operator_may_also_look_at_definitions_and_nothing_else(install: dict[str, Object]) -> None:
    assert granted(install["ClusterRole"]["rules"]) == RIGHTS | RIGHTS_WITHOUT_NAMESPACE | RIGHTS_CLUSTER_WIDE


def test_rights_are_documented_as_they_are() -> None:
    rows = re.findall(r"^\| `([\w./]+)` \| ([\w, ]+) \| (\w[\w ]+) \|$", text("docs/kubernetes.md"), re.MULTILINE)
    documented = {resource: set(verbs.split(", ")) for resource, verbs, _ in rows}
    every = RIGHTS | RIGHTS_WITHOUT_NAMESPACE | RIGHTS_CLUSTER_WIDE
    assert documented == {resource: verbs for (_, resource), verbs in every.items()}
    apart = {resource for resource, _, where in rows if where == "the whole cluster"}
    assert apart == {resource for _, resource in RIGHTS_WITHOUT_NAMESPACE | RIGHTS_CLUSTER_WIDE}


def test_nobody_gets_every_secret_without_having_said_so(values: Object) -> None:
    assert (values["watchNamespaces"], values["watchAllNamespaces"]) == ([], False)
    rbac = (CHART / "templates" / "rbac.yaml").read_text(encoding="utf-8")
    assert rbac.startswith('{{- include "wavekv-operator.scope" . }}')
    names_template = (CHART / "templates" / "_names.tpl").read_text(encoding="utf-8")
    scope = re.search(r'define "wavekv-operator.scope" -}}(.*?)\n{{/\*', names_template, re.DOTALL)
    assert scope is not None
    assert re.search(r"not \(or .Values.watchNamespaces .Values.watchAllNamespaces\) -}}\s*{{- fail", scope[1])


def test_the_rights_are_bound_to_the_account_that_the_pod_runs_as(install: dict[str, Object]) -> None:
    account = install["ServiceAccount"]["metadata"]
    subject = {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    assert install["ClusterRoleBinding"]["subjects"] == [subject]
    assert install["ClusterRoleBinding"]["roleRef"]["name"] == install["ClusterRole"]["metadata"]["name"]
    assert pod(install)["serviceAccountName"] == account["name"]
    assert account["namespace"] == install["Namespace"]["metadata"]["name"]


# ---- the deployment --------------------------------------------------------------------------------------------------


def test_the_charts_defaults_are_the_operators_own_but_that_it_logs_json(
    install: dict[str, Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {option.envvar for option in run.params}
    template = (CHART / "templates" / "deployment.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"name: (WAVEKV_\w+)", template)) == options
    for name in options:
        monkeypatch.delenv(str(name), raising=False)
    image = f"REGISTRY/wavekv-sidecar:{__version__}"
    own = run.make_context("run", ["--member-image", image, "--log-format", "json"]).params
    for variable in pod(install)["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    assert run.make_context("run", []).params == own


def test_one_operator_runs_at_a_time_without_any_privilege(install: dict[str, Object]) -> None:
    deployment, container = install["Deployment"]["spec"], pod(install)["containers"][0]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(install)["securityContext"]["runAsNonRoot"] is True
    assert pod(install)["securityContext"]["runAsUser"] == names.USER
    assert pod(install)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


# ---- values ----------------------------------------------------------------------------------------------------------

FREE = {"resources", "affinity", "global", "tolerations"}
"""Values whose inside is Kubernetes' own or Helm's."""


def test_the_schema_knows_each_value_and_no_other(values: Object) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    definitions = {f"#/definitions/{name}": inner for name, inner in schema["definitions"].items()}

    def agree(value: Any, schema: Object, path: str) -> None:
        schema = definitions.get(schema.get("$ref", ""), schema)
        if path in FREE or not isinstance(value, dict) or isinstance(schema["additionalProperties"], dict):
            return
        assert schema["additionalProperties"] is False, path
        assert value.keys() == schema["properties"].keys() - {"global"}, path
        for name, inner in value.items():
            agree(inner, schema["properties"][name], name)

    agree(values, schema, "")


def test_every_value_is_used_and_documented(values: Object) -> None:
    templates = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir())
    assert set(re.findall(r"\.Values\.(\w+)", templates)) == values.keys()
    document = text("docs/kubernetes.md")
    assert [name for name in values if f"`{name}" not in document] == []


def test_no_image_is_presumed(values: Object) -> None:
    assert values["image"]["repository"] == values["memberImage"]["repository"] == ""


# ---- examples --------------------------------------------------------------------------------------------------------


def unknown_fields(value: Any, schema: Object, path: str = "") -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in unknown_fields(item, schema["items"], f"{path}[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    strange = [f"{path}.{key}" for key in value if key not in schema["properties"]]
    known = {key: inner for key, inner in value.items() if key in schema["properties"]}
    below = [unknown_fields(inner, schema["properties"][key], f"{path}.{key}") for key, inner in known.items()]
    return strange + [found for each in below for found in each]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_resource_that_the_operator_builds(example: Path) -> None:
    resource = yaml.safe_load(example.read_text(encoding="utf-8"))
    schema = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert (resource["apiVersion"], resource["kind"]) == (names.API_VERSION, names.KIND)
    assert unknown_fields(resource["spec"], schema) == []
    assert unknown_fields({**resource["spec"], "replica": 1}, schema) == [".replica"]
    resource["metadata"] |= {"namespace": "default", "uid": "u-1"}
    cluster = read_cluster(resource)
    assert cluster.replicas == 3
    check_template(cluster.template or {}, allow_unsafe=False)


# ---- images ----------------------------------------------------------------------------------------------------------


def pins(path: str) -> dict[str, set[str]]:
    """Return the hashes of each `name==version; marker` of a lock."""
    blocks = re.split(r"\n(?=\w)", text(path).strip())
    return {block.split(" \\")[0].split("\n")[0]: set(re.findall(r"sha256:\w+", block)) for block in blocks}


@pytest.mark.parametrize("image", ["member", "operator"])
def test_an_images_lock_takes_its_pins_from_the_one_lock(image: str) -> None:
    whole, part = pins("requirements.lock"), pins(f"requirements-{image}.lock")
    assert len(part) > 10, "a lock of nearly nothing is no lock"
    versions = {pin.split(" ;")[0]: hashes for pin, hashes in whole.items()}
    for pin, hashes in part.items():
        assert hashes
        assert versions[pin.split(" ;")[0]] == hashes, f"{pin}: run make lock"


def test_the_members_image_has_none_of_the_operators_dependencies(project: Object) -> None:
    def named(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=]", requirement)[0].lower() for requirement in requirements}

    member = {pin.split("==")[0] for pin in pins("requirements-member.lock")}
    operator = {pin.split("==")[0] for pin in pins("requirements-operator.lock")}
    extra = named(project["project"]["optional-dependencies"]["operator"])
    assert not member & extra
    assert named(project["project"]["dependencies"]) <= member
    assert extra <= operator
    assert member <= operator, "the operator's libraries are laid over the member's"


def test_images_start_what_the_distribution_installs(project: Object) -> None:
    started = dict(re.findall(r"from ([\w.]+) import main\\n.*\\\n\s*> /opt/wavekv/bin/([\w-]+)", text("Dockerfile")))
    scripts = project["project"]["scripts"]
    assert {command: f"{module}:main" for module, command in started.items()} == scripts
    assert set(re.findall(r'ENTRYPOINT \["([\w-]+)"\]', text("Dockerfile"))) == set(scripts)


def test_the_build_gets_exactly_the_files_it_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+) ", text("Dockerfile"), re.MULTILINE)
    kept = [line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(kept)


def test_both_images_run_as_the_user_that_pods_are_built_for() -> None:
    users = re.findall(r"^USER (.*)$", text("Dockerfile"), re.MULTILINE)
    assert users == [f"{names.USER}:{names.USER}"] * 2
