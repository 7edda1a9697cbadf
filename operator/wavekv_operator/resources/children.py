"""Builds the other children: StatefulSet, Services, disruption budget, the membership's ConfigMap, the Secrets."""

import json
from collections.abc import Mapping
from typing import Any

from wavekv_operator import names
from wavekv_operator.resources.pod import pod_template
from wavekv_operator.spec import Cluster, Manifest

_REVISIONS_KEPT = 5


def stateful_set(cluster: Cluster, replicas: int, image: str, pull_policy: str | None) -> Manifest:
    """Return the StatefulSet with `replicas` pods: the wanted size, or a larger one while members drain."""
    claim: Manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": names.DATA_VOLUME, "labels": names.labels(cluster.name)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": cluster.storage.size}},
        },
    }
    if cluster.storage.storage_class is not None:
        claim["spec"]["storageClassName"] = cluster.storage.storage_class
    spec = {
        "replicas": replicas,
        "serviceName": names.peers_service(cluster.name),
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": _REVISIONS_KEPT,
        "selector": {"matchLabels": names.selector(cluster.name)},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": cluster.storage.when_deleted,
            "whenScaled": cluster.storage.when_scaled,
        },
        "template": pod_template(cluster, image, pull_policy),
        "volumeClaimTemplates": [claim],
    }
    return _child(cluster, "apps/v1", "StatefulSet", cluster.name, spec=spec)


def peers_service(cluster: Cluster) -> Manifest:
    """Return the headless Service that gives each member a name, ready or not: peers heal it before it is."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": names.selector(cluster.name),
        "ports": [
            {"name": "peers", "port": names.PEER_PORT, "targetPort": names.PEER_PORT_NAME, "protocol": "TCP"},
            {"name": "metrics", "port": names.METRICS_PORT, "targetPort": names.METRICS_PORT_NAME, "protocol": "TCP"},
        ],
    }
    return _child(cluster, "v1", "Service", names.peers_service(cluster.name), spec=spec)


def client_service(cluster: Cluster) -> Manifest | None:
    """Return the Service of the application's named ports, None where the template names none.

    The data planes listen on loopback, where no Service reaches.
    """
    containers = ((cluster.template or {}).get("spec") or {}).get("containers") or ()
    ports = [
        {
            "name": port["name"],
            "port": port["containerPort"],
            "targetPort": port["name"],
            "protocol": port.get("protocol", "TCP"),
        }
        for container in containers
        for port in container.get("ports") or ()
        if port.get("name")
    ]
    if not ports:
        return None
    return _child(
        cluster, "v1", "Service", cluster.name, spec={"selector": names.selector(cluster.name), "ports": ports}
    )


def disruption_budget(cluster: Cluster) -> Manifest | None:
    """Return the budget of one pod at a time, None with one replica (it would block every node drain) or opted out."""
    if cluster.replicas == 1 or not cluster.disruption_budget:
        return None
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": names.selector(cluster.name)}}
    return _child(cluster, "policy/v1", "PodDisruptionBudget", cluster.name, spec=spec)


def membership(
    cluster: Cluster, document: Mapping[str, Any], resource_version: str | None, override: str | None = None
) -> Manifest:
    """Return the ConfigMap of the membership; `resource_version` is the one the decision was made on.

    A write that lost a race is refused by the API server, so no epoch is ever issued twice. `override` says of which
    epoch the last override was, so that it is carried out once.
    """
    body = {names.MEMBERSHIP_KEY: json.dumps(document, sort_keys=True)}
    manifest = _child(cluster, "v1", "ConfigMap", names.membership(cluster.name), data=body)
    if resource_version is not None:
        manifest["metadata"]["resourceVersion"] = resource_version
    if override is not None:
        manifest["metadata"]["annotations"] = {names.OVERRIDDEN_ANNOTATION: override}
    return manifest


def authorities(cluster: Cluster, bundle: bytes) -> Manifest:
    """Return the ConfigMap of the authorities that members trust. Certificates alone: nothing in it is secret."""
    data = {names.CA_KEY: bundle.decode("ascii")}
    return _child(cluster, "v1", "ConfigMap", names.authorities(cluster.name), data=data)


def secret(cluster: Cluster, name: str, data: Mapping[str, str]) -> Manifest:
    """Return a Secret; the values of `data` are base64."""
    return _child(cluster, "v1", "Secret", name, type="Opaque", data=dict(data))


def _child(cluster: Cluster, api_version: str, kind: str, name: str, **body: Any) -> Manifest:
    metadata: Manifest = {
        "name": name,
        "namespace": cluster.namespace,
        "labels": names.labels(cluster.name),
        "ownerReferences": [names.owner_reference(cluster.manifest)],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
