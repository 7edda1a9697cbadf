"""The definition by itself: structural, small, every list merged by keys it has; and what generates most of it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from schema.pod_template import pod_template_schema
from wavekv_operator import crd
from wavekv_operator.spec import REPLICAS_MAX

Schema = dict[str, Any]

COMPACT_BYTES_MAX = 100 * 1024
"""`kubectl apply` keeps the whole in an annotation; all annotations of an object together hold 256 KiB."""


def root() -> Schema:
    schema: Schema = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def spec_fields() -> Schema:
    fields: Schema = root()["properties"]["spec"]["properties"]
    return fields


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every schema inside `schema` with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + mark)


# ---- the definition --------------------------------------------------------------------------------------------------


def test_the_definition_fits_into_an_annotation() -> None:
    assert len(json.dumps(crd.crd(), separators=(",", ":"))) < COMPACT_BYTES_MAX


def test_the_yaml_says_the_same_without_aliases_and_the_same_every_time() -> None:
    text = crd.crd_yaml()
    assert yaml.safe_load(text) == crd.crd()
    assert not re.search(r"[&*]id\d", text)
    assert text == crd.crd_yaml()


def test_every_node_has_a_type_so_that_unknown_fields_are_refused() -> None:
    for path, schema in nodes(root()):
        assert "type" in schema or schema.get("x-kubernetes-int-or-string"), path
        assert "x-kubernetes-preserve-unknown-fields" not in schema, path
        if schema.get("type") == "object":
            assert path == ".metadata" or "properties" in schema or "additionalProperties" in schema, path
        if schema.get("type") == "array":
            assert "items" in schema, path


def test_every_list_merged_by_keys_has_each_key_required_or_defaulted() -> None:
    seen = 0
    for path, schema in nodes(root()):
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            item = schema["items"]
            assert key in item.get("required", ()) or "default" in item["properties"][key], f"{path} by {key}"
            seen += 1
    assert seen > 10


def test_in_a_template_only_keys_of_lists_have_defaults_and_nothing_has_a_description() -> None:
    template = spec_fields()["template"]
    keys = {
        f"{path}[].{key}" for path, schema in nodes(template) for key in schema.get("x-kubernetes-list-map-keys", ())
    }
    assert {path for path, schema in nodes(template) if "default" in schema} <= keys
    assert [path for path, schema in nodes(template) if "description" in schema] == [""]


def test_every_field_of_ours_is_described() -> None:
    for name, field in spec_fields().items():
        inner = {} if name == "template" else field.get("properties", {})
        assert field["description"].endswith("."), name
        assert [key for key, schema in inner.items() if "description" not in schema] == [], name


def test_a_template_needs_a_container() -> None:
    pod = spec_fields()["template"]["properties"]["spec"]
    assert pod["required"] == ["containers"]
    assert pod["properties"]["containers"]["minItems"] == 1


def test_limits_are_in_the_schema() -> None:
    replicas, interval = spec_fields()["replicas"], spec_fields()["member"]["properties"]["gossipIntervalMs"]
    assert (replicas["minimum"], replicas["maximum"]) == (1, REPLICAS_MAX)
    assert (interval["minimum"], interval["maximum"]) == (50, 60_000)


def test_the_bounds_of_the_members_limits_are_in_the_schema() -> None:
    limits = spec_fields()["limits"]["properties"]
    assert limits.keys() == {"entries", "bytes", "keyBytes", "valueBytes"}
    counts = {name: (limits[name]["minimum"], limits[name]["maximum"]) for name in ("entries", "keyBytes")}
    assert counts == {"entries": (1, 10_000_000), "keyBytes": (1, 1024)}
    rules = {name: limits[name]["x-kubernetes-validations"][0] for name in ("bytes", "valueBytes")}
    for name, least, most in (("bytes", 1 << 20, 64 << 30), ("valueBytes", 1, 1 << 20)):
        assert f"self >= {least} && self <= {most} :" in rules[name]["rule"]
        assert (
            f"compareTo(quantity('{least}')) >= 0 && quantity(self).compareTo(quantity('{most}')) <= 0"
            in rules[name]["rule"]
        )
    assert rules["bytes"]["message"].endswith("1Mi … 64Gi")
    assert (limits["bytes"]["default"], limits["valueBytes"]["default"]) == ("1Gi", "1Mi")


@pytest.mark.parametrize(
    ("amount", "kept"),
    [
        ("1Gi", True),
        ("500m", True),
        ("1.5", True),
        (".5Gi", True),
        ("1e3", True),
        ("1E-3", True),
        ("1Gib", False),
        ("", False),
        ("Gi", False),
        ("1 Gi", False),
        (".", False),
    ],
)
def test_amounts_are_kubernetes_quantities(amount: str, kept: bool) -> None:
    assert (re.search(crd.QUANTITY["pattern"], amount) is not None) == kept


def test_every_rule_names_its_field() -> None:
    rules = [(path, rule) for path, schema in nodes(root()) for rule in schema.get("x-kubernetes-validations", ())]
    assert len(rules) == 7
    for path, rule in rules:
        field = (path + rule.get("fieldPath", "")).lstrip(".")
        assert field, rule
        assert field in rule["message"]


# ---- the generator ---------------------------------------------------------------------------------------------------

CORE, META = "io.k8s.api.core.v1", "io.k8s.apimachinery.pkg"


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def merged(name: str, keys: list[str]) -> Schema:
    item = {"allOf": [ref(f"{CORE}.{name}")], "default": {}}
    return {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys,
        "x-kubernetes-patch-merge-key": keys[0],
    }


def document() -> Schema:
    """Return a small document with one of each thing that the generator treats in its own way."""
    strings = {"type": "object", "additionalProperties": {"type": "string", "default": ""}}
    schemas: Schema = {
        f"{CORE}.PodTemplateSpec": {
            "type": "object",
            "description": "A template.",
            "properties": {
                "metadata": {"allOf": [ref(f"{META}.apis.meta.v1.ObjectMeta")], "default": {}},
                "spec": ref(f"{CORE}.PodSpec"),
            },
        },
        f"{CORE}.PodSpec": {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "containers": merged("Container", ["name"]),
                "ephemeralContainers": merged("Container", ["name"]),
                "nodeSelector": {**strings, "x-kubernetes-map-type": "atomic", "description": "Where."},
            },
        },
        f"{CORE}.Container": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "default": ""},
                "ports": merged("ContainerPort", ["containerPort", "protocol"]),
                "limits": {"type": "object", "additionalProperties": ref(f"{META}.api.resource.Quantity")},
            },
        },
        f"{CORE}.ContainerPort": {
            "type": "object",
            "required": ["containerPort"],
            "properties": {
                "containerPort": {"type": "integer", "format": "int32", "default": 0},
                "protocol": {"type": "string", "default": "TCP", "enum": ["TCP", "UDP"]},
                "target": ref(f"{META}.util.intstr.IntOrString"),
            },
        },
        f"{META}.apis.meta.v1.ObjectMeta": {"type": "object", "properties": {"name": {"type": "string"}}},
        f"{META}.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
        f"{META}.util.intstr.IntOrString": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    }
    return {"components": {"schemas": schemas}}


def test_references_are_resolved_and_what_a_definition_cannot_say_is_left_out() -> None:
    pod = pod_template_schema(document())["properties"]["spec"]
    assert pod["properties"].keys() == {"containers", "nodeSelector"}
    assert pod["properties"]["nodeSelector"] == {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "x-kubernetes-map-type": "atomic",
    }
    container = pod["properties"]["containers"]["items"]["properties"]
    assert container["name"] == {"type": "string"}
    assert container["limits"]["additionalProperties"] == crd.QUANTITY


def test_of_defaults_only_those_of_keys_that_may_be_absent_are_kept() -> None:
    containers = pod_template_schema(document())["properties"]["spec"]["properties"]["containers"]
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    ports = containers["items"]["properties"]["ports"]["items"]
    assert ports["properties"]["protocol"] == {"type": "string", "enum": ["TCP", "UDP"], "default": "TCP"}
    assert ports["properties"]["containerPort"] == {"type": "integer", "format": "int32"}
    assert ports["properties"]["target"] == crd.INT_OR_STRING


def test_of_metadata_a_template_has_labels_and_annotations() -> None:
    metadata = pod_template_schema(document())["properties"]["metadata"]
    assert metadata["properties"].keys() == {"labels", "annotations"}


def test_a_recursive_type_has_no_structural_schema() -> None:
    recursive = document()
    recursive["components"]["schemas"][f"{CORE}.Container"]["properties"]["inner"] = ref(f"{CORE}.Container")
    with pytest.raises(RecursionError):
        pod_template_schema(recursive)
