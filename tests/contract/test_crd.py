"""The CRD agrees with its two written copies, with the code that reads a resource, and with the member's flags."""

import copy
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from wavekv.cli.serve import serve
from wavekv.config import FsyncMode
from wavekv_operator import crd, names
from wavekv_operator.membership import Document, MemberView, Override
from wavekv_operator.plan import Certificate, Observed, Plan
from wavekv_operator.resources.pod import pod_template
from wavekv_operator.spec import Cluster, read_cluster
from wavekv_operator.status import cluster_status

ROOT = Path(__file__).resolve().parents[2]
Schema = dict[str, Any]

OTHER: dict[str, Any] = {
    "replicas": 5,
    "image": "other:1",
    "imagePullPolicy": "Never",
    "storage.size": "2Gi",
    "storage.storageClassName": "fast",
    "storage.whenDeleted": "Delete",
    "storage.whenScaled": "Delete",
    "resources.requests": {"cpu": "1"},
    "resources.limits": {"memory": "1Gi"},
    "member.gossipIntervalMs": 50,
    "member.fsyncMode": "inline",
    "member.logLevel": "debug",
    "member.logFormat": "text",
    "limits.entries": 10,
    "limits.bytes": "2Gi",
    "limits.keyBytes": 100,
    "limits.valueBytes": 1000,
    "disruptionBudget.enabled": False,
    "template": {"spec": {"containers": [{"name": "app", "image": "app:1"}]}},
}
"""For each field a value that is not its default."""


def version() -> Schema:
    found: Schema = crd.crd()["spec"]["versions"][0]
    return found


def spec_schema() -> Schema:
    schema: Schema = version()["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def status_schema() -> Schema:
    schema: Schema = version()["schema"]["openAPIV3Schema"]["properties"]["status"]
    return schema


TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def unknown(value: Any, schema: Schema, path: str = "status") -> list[str]:
    """Return what in `value` the schema does not know, or knows as another type."""
    if type(value) is not TYPES[schema["type"]]:
        return [f"{path} is {value!r}"]
    if isinstance(value, list):
        return [found for item in value for found in unknown(item, schema["items"], f"{path}[]")]
    if not isinstance(value, dict):
        return []
    lacking = [f"{path}.{key} is missing" for key in schema.get("required", ()) if key not in value]
    strange = [f"{path}.{key}" for key in value if key not in schema["properties"]]
    known = [(key, inner) for key, inner in value.items() if key in schema["properties"]]
    return (
        lacking
        + strange
        + [f for key, inner in known for f in unknown(inner, schema["properties"][key], f"{path}.{key}")]
    )


def defaulted(schema: Schema, value: Any) -> Any:
    """Return `value` with the defaults that the API server fills in."""
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for name, inner in schema.get("properties", {}).items():
        if name not in result and "default" in inner:
            result[name] = copy.deepcopy(inner["default"])
        if name in result:
            result[name] = defaulted(inner, result[name])
    return result


def leaves(schema: Schema, path: str = "") -> list[str]:
    found: list[str] = []
    for name, inner in schema["properties"].items():
        below = f"{path}{name}"
        whole = name == "template" or "properties" not in inner
        found += [below] if whole else leaves(inner, f"{below}.")
    return found


def read(spec: Schema) -> Cluster:
    metadata = {"name": "demo", "namespace": "shop", "uid": "u-1", "generation": 1}
    return replace(read_cluster({"metadata": metadata, "spec": spec}), manifest={})


@pytest.mark.parametrize("copied", ["manifests/crd.yaml", "charts/wavekv-operator/files/crd.yaml"])
def test_a_written_copy_is_the_codes_text(copied: str) -> None:
    assert (ROOT / copied).read_text(encoding="utf-8") == crd.crd_yaml(), "run make manifests"


def test_the_definition_is_of_the_kind_that_the_code_names() -> None:
    spec = crd.crd()["spec"]
    assert crd.crd()["metadata"]["name"] == f"{names.PLURAL}.{names.GROUP}"
    assert (spec["group"], spec["names"]["kind"], spec["names"]["plural"]) == (names.GROUP, names.KIND, names.PLURAL)
    assert f"{spec['group']}/{version()['name']}" == names.API_VERSION
    assert spec["names"]["shortNames"] == ["wkv"]
    assert version()["subresources"].keys() == {"status", "scale"}


def test_code_and_definition_have_the_same_defaults() -> None:
    assert read(defaulted(spec_schema(), {})) == read({})


def test_every_field_of_the_definition_is_tried_here() -> None:
    assert sorted(leaves(spec_schema())) == sorted(OTHER)


@pytest.mark.parametrize("path", OTHER)
def test_the_code_reads_every_field_of_the_definition(path: str) -> None:
    *above, last = path.split(".")
    spec = defaulted(spec_schema(), {})
    inner = spec
    for name in above:
        inner = inner.setdefault(name, {})
    inner[last] = OTHER[path]
    assert read(spec) != read({})


def rolled(path: str) -> bool:
    """Tell whether another value of the field at `path` changes the pods' template."""
    spec: Schema = {}
    *above, last = path.split(".")
    inner = spec
    for name in above:
        inner = inner.setdefault(name, {})
    inner[last] = OTHER[path]
    before, after = (
        pod_template(cluster, cluster.image or "wavekv:1", cluster.image_pull_policy)
        for cluster in map(read, ({}, spec))
    )
    return before != after


def test_what_rolls_the_pods_is_what_the_documentation_says() -> None:
    table = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8").split("**What rolls the pods**")[1]
    rows = [line.split(" | ") for line in table.split("\n\n")[1].splitlines() if line.startswith("| `")]
    documented = {name: row[1].startswith("yes") for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == {
        name: any(rolled(path) for path in OTHER if path.split(".")[0] == name) for name in spec_schema()["properties"]
    }


def test_every_default_spelled_out_rolls_nothing() -> None:
    bare, spelled = (pod_template(read(spec), "wavekv:1", None) for spec in ({}, defaulted(spec_schema(), {})))
    assert bare == spelled


def test_the_longest_name_leaves_room_for_what_is_made_from_it() -> None:
    name = "a" * crd.NAME_CHARS_MAX
    members = [names.member(name, ordinal) for ordinal in (0, 999)]
    made = [names.peers_service(name), names.ca_secret(name), names.operator_tls_secret(name), *members]
    made += [names.membership(name), names.authorities(name)]
    assert max(map(len, made)) <= 63
    assert len(f"{name}-{'5' * 10}") <= 63, "the StatefulSet controller labels pods with a revision"


def test_members_options_are_what_the_member_takes() -> None:
    options = spec_schema()["properties"]["member"]["properties"]
    choices = {
        parameter.name: set(parameter.type.choices)
        for parameter in serve.params
        if isinstance(parameter.type, click.Choice)
    }
    assert set(options["fsyncMode"]["enum"]) == choices["fsync_mode"] == set(get_args(FsyncMode))
    assert set(options["logLevel"]["enum"]) == choices["log_level"]
    assert set(options["logFormat"]["enum"]) == choices["log_format"]


def test_a_status_has_only_fields_of_the_definition_and_uses_them_all() -> None:
    cluster = replace(read({"replicas": 2}), manifest={})
    answered = MemberView(
        "demo-0", 7, "u-7", "serving", True, False, False, True, 1, 2, ("demo-0", "demo-1"), 1, drain=None
    )
    certificates = {"demo-0": Certificate(datetime(2026, 4, 1, tzinfo=UTC))}
    seen = Observed(pods={"demo-0": {}, "demo-1": {}}, views={"demo-0": answered}, certificates=certificates)
    admitted = {"demo-0": 1, "demo-1": 1}
    plan = Plan((), Document(2, ("demo-0", "demo-1"), admitted, override=Override(2, 9)), None, 2)
    status = cluster_status(cluster, seen, plan, now=datetime(2026, 1, 1, tzinfo=UTC), patience_seconds=30)
    assert unknown(status, status_schema()) == []
    assert status.keys() == status_schema()["properties"].keys()
    assert status["members"][0].keys() == status_schema()["properties"]["members"]["items"]["properties"].keys()
    assert unknown({**status, "mood": "good"}, status_schema()) == ["status.mood"]


def test_the_columns_show_fields_and_conditions_that_exist() -> None:
    root = version()["schema"]["openAPIV3Schema"]
    for column in version()["additionalPrinterColumns"]:
        head, field, *rest = column["jsonPath"].lstrip(".").split(".")
        if head != "metadata":
            assert field.partition("[")[0] in root["properties"][head]["properties"], column
        assert not rest or '@.type=="' in column["jsonPath"], column
