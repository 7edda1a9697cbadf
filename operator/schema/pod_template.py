"""Generates `wavekv_operator/pod_template_schema.json`, the schema of `spec.template`, from a cluster's own OpenAPI.

    kubectl get --raw /openapi/v3/api/v1 | python operator/schema/pod_template.py > \
        operator/wavekv_operator/pod_template_schema.json

The same document gives the same bytes. What a CRD cannot say or does not need is left out: references are resolved,
descriptions go (the document would not fit into an annotation), and so do defaults, because a value that Kubernetes
fills in anyway must not appear in what a user wrote. The one exception: a list that is merged by keys needs each key
required or defaulted. Of metadata only labels and annotations are kept; ephemeral containers, which Kubernetes refuses
in templates, are not.

Nobody runs this but a developer who raises the Kubernetes version; `tests/unit` runs it on a small document.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from wavekv_operator.crd import INT_OR_STRING, QUANTITY

Schema = dict[str, Any]

_POD_TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_REPLACED: Mapping[str, Schema] = {
    _OBJECT_META: {"type": "object", "properties": {"labels": _STRINGS, "annotations": _STRINGS}},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
}
"""Types whose own schema is not structural, or says more than a template may."""
_DROPPED_PROPERTIES = {"ephemeralContainers"}
_KEPT = ("type", "format", "enum", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys")
_KEPT += ("x-kubernetes-map-type",)


def pod_template_schema(document: Mapping[str, Any]) -> Schema:
    """Return the structural schema of a pod template.

    Args:
        document: an OpenAPI v3 document of the core API group, decoded.

    Raises:
        KeyError: the document lacks a type that it refers to.
        RecursionError: its types are recursive; no structural schema exists.
    """
    schemas = document["components"]["schemas"]
    template = _structural(schemas[_POD_TEMPLATE], schemas)
    template["required"] = ["spec"]
    containers = template["properties"]["spec"]["properties"]["containers"]
    containers["minItems"] = 1
    return template


def _structural(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Schema:
    """Return `schema` with every reference resolved and only what a CRD needs."""
    reference = schema.get("$ref") or next((part["$ref"] for part in schema.get("allOf", ()) if "$ref" in part), None)
    if reference is not None:
        name = reference.rpartition("/")[2]
        return dict(_REPLACED[name]) if name in _REPLACED else _structural(schemas[name], schemas)
    result = {key: schema[key] for key in _KEPT if key in schema}
    if "properties" in schema:
        result["properties"] = {
            name: _structural(inner, schemas)
            for name, inner in schema["properties"].items()
            if name not in _DROPPED_PROPERTIES
        }
    for key in ("items", "additionalProperties"):
        if key in schema:
            result[key] = _structural(schema[key], schemas)
    for key in schema.get("x-kubernetes-list-map-keys", ()):
        _keep_key(key, result["items"], schema["items"], schemas)
    return result


def _keep_key(key: str, item: Schema, source: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    """Give a list's key the default it has in Kubernetes, unless every item has to name it."""
    if key in item.get("required", ()):
        return
    name = source["allOf"][0]["$ref"].rpartition("/")[2]
    item["properties"][key]["default"] = schemas[name]["properties"][key]["default"]


if __name__ == "__main__":
    json.dump(pod_template_schema(json.load(sys.stdin)), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
