"""The CustomResourceDefinition of WaveKVCluster: its one source, from which manifest and chart are written.

Defaults are those with which `spec` reads a resource. What a schema can refuse is refused by the API server, with the
field's name: a pattern or a limit where one says it, a CEL rule where it takes two fields or two versions. The pod
template's schema is generated from Kubernetes (`operator/schema/pod_template.py`) and kept as a file. The whole stays
below 100 KiB, so that plain `kubectl apply`, which stores it in an annotation once more, takes it.

A schema that keeps unknown fields was turned down: a misspelled field in a template would go by in silence.
"""

import json
from importlib import resources
from typing import Any

import yaml

from wavekv_operator import amounts, names
from wavekv_operator.spec import (
    LEAST,
    LIMIT_FIELDS,
    MOST,
    REPLICAS_MAX,
    RESOURCES,
    Cluster,
    Manifest,
    MemberLimits,
    MemberOptions,
    Storage,
)

Schema = dict[str, Any]

CRD_NAME = f"{names.PLURAL}.{names.GROUP}"
NAME_CHARS_MAX = 46
"""Pods, Services and Secrets add a suffix, and a pod's labels another; a label value holds 63."""
GOSSIP_INTERVAL_MS_MIN = 50
GOSSIP_INTERVAL_MS_MAX = 60_000

_NAME = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_QUANTITY = rf"^[+-]?{_NUMBER}([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
INT_OR_STRING: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
QUANTITY: Schema = {**INT_OR_STRING, "pattern": _QUANTITY}
"""An amount such as 500m or 2Gi."""
_RETENTION = ("Retain", "Delete")


def crd() -> Manifest:
    """Return the definition as the API server takes it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.KIND.lower(),
                "shortNames": ["wkv"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _columns(),
                }
            ],
        },
    }


def crd_yaml() -> str:
    """Return the definition as YAML; the same text every time."""
    plain = json.loads(json.dumps(crd()))  # a part that is used twice is written twice, not as a YAML alias
    text: str = yaml.safe_dump(plain, sort_keys=False, width=120, allow_unicode=True)
    return text


def _columns() -> list[Schema]:
    def condition(kind: str) -> str:
        return f'.status.conditions[?(@.type=="{kind}")].status'

    return [
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
        {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas"},
        {"name": "Status", "type": "string", "jsonPath": condition("Ready")},
        {"name": "Converged", "type": "string", "jsonPath": condition("Converged")},
        {"name": "Epoch", "type": "integer", "jsonPath": ".status.epoch", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def _root() -> Schema:
    return {
        "description": "A replicated key-value engine with one member beside every replica of a service.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},  # named by the rule below
            "spec": _spec(),
            "status": _status(),
        },
        "x-kubernetes-validations": [
            {
                "rule": f"self.metadata.name.size() <= {NAME_CHARS_MAX} && self.metadata.name.matches('{_NAME}')",
                "message": f"metadata.name has to be a DNS label of at most {NAME_CHARS_MAX} characters without dots, "
                "beginning with a letter: the names of pods and Services are made from it",
                "fieldPath": ".metadata.name",
            },
            {
                "rule": "!self.metadata.name.endsWith('-peers')",
                "message": "metadata.name may not end with -peers: so ends the Service of another cluster",
                "fieldPath": ".metadata.name",
            },
        ],
    }


# ---- spec ------------------------------------------------------------------------------------------------------------


def _spec() -> Schema:
    return _object(
        "The wanted cluster.",
        replicas={
            "description": "Members, each with a volume. A smaller number drains members one by one before they go.",
            "type": "integer",
            "format": "int32",
            "minimum": 1,
            "maximum": REPLICAS_MAX,
            "default": Cluster.__dataclass_fields__["replicas"].default,
        },
        image={
            "description": "Image of the member. Without it, the one that the operator was installed with.",
            "type": "string",
            "minLength": 1,
        },
        imagePullPolicy=_one_of("When the member's image is pulled.", ("Always", "IfNotPresent", "Never")),
        storage=_storage(),
        resources=_member_resources(),
        member=_member_options(),
        limits=_limits(),
        disruptionBudget={
            **_object(
                "The PodDisruptionBudget: at most one member is evicted at a time. One replica has none.",
                enabled={"description": "Whether there is one.", "type": "boolean", "default": True},
            ),
            "default": {},
        },
        template=_template(),
    )


def _storage() -> Schema:
    default = Storage()
    return {
        **_object(
            "The volume of each member.",
            size={
                "description": "Size of each volume, for example 1Gi. It cannot be changed.",
                "type": "string",
                "maxLength": 32,
                "pattern": _QUANTITY,
                "default": default.size,
                "x-kubernetes-validations": [
                    {
                        "rule": "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
                        "message": "spec.storage.size has to be more than zero",
                    },
                    {
                        "rule": "self == oldSelf",
                        "message": "spec.storage.size cannot be changed: growing volumes is not in this version",
                    },
                ],
            },
            storageClassName={
                "description": "StorageClass of the volumes; without it the cluster's default. It cannot be changed.",
                "type": "string",
                "minLength": 1,
                "maxLength": 253,
            },
            whenDeleted=_one_of(
                "What happens to the volumes when the WaveKVCluster is deleted.", _RETENTION, default.when_deleted
            ),
            whenScaled=_one_of(
                "What happens to the volume of a member that a smaller size removed.", _RETENTION, default.when_scaled
            ),
        ),
        "default": {},
        "x-kubernetes-validations": [
            {
                "rule": "has(self.storageClassName) == has(oldSelf.storageClassName) && "
                "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
                "message": "spec.storage.storageClassName cannot be set, changed or removed later: "
                "volumes keep the class they were made with",
                "fieldPath": ".storageClassName",
            }
        ],
    }


def _member_resources() -> Schema:
    quantities = {"type": "object", "additionalProperties": QUANTITY}
    return {
        **_object(
            "What the member's container asks for. All keys and values are held in memory.",
            requests={**quantities, "description": "Reserved for the member."},
            limits={**quantities, "description": "Most it may use; over the memory limit it is killed and recovers."},
        ),
        "default": RESOURCES,
    }


def _member_options() -> Schema:
    default = MemberOptions()
    return {
        **_object(
            "How members run.",
            gossipIntervalMs={
                "description": "Mean time between two repair exchanges of a member, in milliseconds. "
                "Writes are pushed within milliseconds regardless.",
                "type": "integer",
                "format": "int32",
                "minimum": GOSSIP_INTERVAL_MS_MIN,
                "maximum": GOSSIP_INTERVAL_MS_MAX,
                "default": default.gossip_interval_ms,
            },
            fsyncMode=_one_of(
                "Sync on a thread of its own, in the event loop, or whichever is fast.",
                ("thread", "inline", "adaptive"),
                default.fsync_mode,
            ),
            logLevel=_one_of("Least level that is logged.", ("debug", "info", "warning", "error"), default.log_level),
            logFormat=_one_of("Form of the log's lines.", ("json", "text"), default.log_format),
        ),
        "default": {},
    }


def _limits() -> Schema:
    return {
        **_object(
            "How much each member takes. Writes are refused at 90 % of entries and bytes, merges at 100 %. "
            "All of it is held in memory: plan 60 MiB, the bytes, and 250 bytes for each entry.",
            **{
                LIMIT_FIELDS["entries"]: _count_limit(
                    "entries", "Entries held, deleted ones included until they are collected."
                ),
                LIMIT_FIELDS["size_bytes"]: _size_limit("size_bytes", "Bytes of all keys and values, for example 1Gi."),
                LIMIT_FIELDS["key_bytes"]: _count_limit("key_bytes", "Longest key that clients may use, in bytes."),
                LIMIT_FIELDS["value_bytes"]: _size_limit(
                    "value_bytes", "Longest value that clients may write, for example 64Ki."
                ),
            },
        ),
        "default": {},
    }


def _count_limit(attribute: str, description: str) -> Schema:
    return {
        "description": description,
        "type": "integer",
        "format": "int32",
        "minimum": getattr(LEAST, attribute),
        "maximum": getattr(MOST, attribute),
        "default": getattr(MemberLimits(), attribute),
    }


def _size_limit(attribute: str, description: str) -> Schema:
    least, most = getattr(LEAST, attribute), getattr(MOST, attribute)
    bounds = f"{amounts.shown(least)} … {amounts.shown(most)}"
    return {
        "description": description,
        **INT_OR_STRING,
        "pattern": amounts.PATTERN,
        "default": amounts.shown(getattr(MemberLimits(), attribute)),
        "x-kubernetes-validations": [
            {
                # Not string(self): the cost of reading what that returns is unknown, and the rule would be refused.
                "rule": f"type(self) == int ? self >= {least} && self <= {most} : "
                f"quantity(self).compareTo(quantity('{least}')) >= 0 && "
                f"quantity(self).compareTo(quantity('{most}')) <= 0",
                "message": f"spec.limits.{LIMIT_FIELDS[attribute]} has to be in {bounds}",
            }
        ],
    }


def _template() -> Schema:
    text = resources.files("wavekv_operator").joinpath("pod_template_schema.json").read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    schema["description"] = (
        "The application's pod, into which the operator puts the member. Without it the member is alone in its pod."
    )
    return schema


# ---- status ----------------------------------------------------------------------------------------------------------


def _status() -> Schema:
    counter = {"type": "integer", "format": "int32"}
    return _object(
        "What the operator saw last.",
        observedGeneration={"type": "integer", "format": "int64"},
        replicas={**counter, "description": "Pods there are."},
        readyReplicas={**counter, "description": "Pods that are ready."},
        selector={"type": "string", "description": "Label selector of the pods, for autoscalers."},
        epoch={"type": "integer", "format": "int64", "description": "Number of the membership in force."},
        epochOverride=_object(
            "The last epoch that an annotation set against what members knew.",
            **{
                "epoch": {"type": "integer", "format": "int64"},
                "from": {"type": "integer", "format": "int64", "description": "The greatest epoch it overrules."},
                "at": {"type": "string", "format": "date-time"},
            },
        ),
        clusterId={"type": "string", "description": "UUID by which members know their cluster."},
        members=_list_by(
            "name",
            name={"type": "string"},
            nodeId={"type": "integer", "format": "int64", "description": "Born with the volume's directory."},
            uuid={"type": "string", "description": "Born with the volume's directory."},
            phase={"type": "string"},
            claim={"type": "string", "description": "PersistentVolumeClaim of the member."},
            certificateExpires={"type": "string", "format": "date-time", "description": "End of its certificate."},
            ready={"type": "boolean"},
            converged={"type": "boolean"},
        ),
        conditions=_list_by(
            "type",
            "status",
            "lastTransitionTime",
            "reason",
            "message",
            type={"type": "string", "maxLength": 316},
            status={"type": "string", "enum": ["True", "False", "Unknown"]},
            observedGeneration={"type": "integer", "format": "int64", "minimum": 0},
            lastTransitionTime={"type": "string", "format": "date-time"},
            reason={"type": "string", "minLength": 1, "maxLength": 1024},
            message={"type": "string", "maxLength": 32768},
        ),
    )


# ---- shapes ----------------------------------------------------------------------------------------------------------


def _object(description: str, /, **properties: Schema) -> Schema:
    return {"description": description, "type": "object", "properties": properties}


def _list_by(key: str, /, *required: str, **properties: Schema) -> Schema:
    item = {"type": "object", "required": [key, *required], "properties": properties}
    return {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _one_of(description: str, values: tuple[str, ...], default: str | None = None) -> Schema:
    schema: Schema = {"description": description, "type": "string", "enum": list(values)}
    return schema if default is None else {**schema, "default": default}
