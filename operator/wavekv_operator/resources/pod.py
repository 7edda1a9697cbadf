"""Builds the pod template: the application's containers, with the member as a native sidecar beside them.

The member's container alone mounts the claim, on which its key is, and what it is enrolled with; it carries the
hardening. The pod as a whole gets an `fsGroup` only, because an application's own users are its business. A token for
the API reaches application containers alone, and only where the template asks for it; the member has one that only the
operator takes, to show which pod it is in. Without a template the pod holds
the member alone, as a plain container.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from wavekv_operator import names
from wavekv_operator.spec import Cluster, Manifest, MemberLimits

_APPLICATION_ENV = {"WAVEKV_URL": f"http://127.0.0.1:{names.HTTP_PORT}", "WAVEKV_SOCKET": names.SOCKET}
_STARTUP_SECONDS_MAX = 1800
"""Time for replaying the log before the kubelet gives up: a gigabyte on a slow volume takes minutes."""


def pod_template(cluster: Cluster, image: str, pull_policy: str | None) -> Manifest:
    """Return the pod template of `cluster`'s StatefulSet."""
    template = deepcopy(dict(cluster.template or {}))
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    member = member_container(cluster, image, pull_policy)
    if cluster.template is None:
        spec["containers"] = [member]
    else:
        for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
            _give_socket(container)
        # First in the list: application init containers already find the member running.
        spec["initContainers"] = [{**member, "restartPolicy": "Always"}, *(spec.get("initContainers") or ())]
    _project_token(spec)
    spec["volumes"] = [*(spec.get("volumes") or ()), *_volumes(cluster)]
    spec["securityContext"] = _pod_security(spec.get("securityContext") or {})
    if not spec.get("affinity") and not spec.get("topologySpreadConstraints"):
        spec["topologySpreadConstraints"] = [_spread(cluster)]
    labels = {**names.labels(cluster.name), **(metadata.get("labels") or {})}
    labels[names.MANAGED_BY_LABEL] = names.FIELD_MANAGER  # the operator's watches select by it
    built: Manifest = {"metadata": {"labels": labels}, "spec": spec}
    if metadata.get("annotations"):
        built["metadata"]["annotations"] = metadata["annotations"]
    return built


def member_container(cluster: Cluster, image: str, pull_policy: str | None) -> Manifest:
    """Return the member's container."""
    options = cluster.options
    tls, membership = names.TLS_MOUNT, f"{names.MEMBERSHIP_MOUNT}/{names.MEMBERSHIP_KEY}"
    flags = {
        "--data-dir": names.DATA_DIR,
        "--name": "$(POD_NAME)",
        "--cluster-id": cluster.cluster_id,
        "--socket": names.SOCKET,
        "--membership": membership,
        "--tls-ca": f"{tls}/{names.CA_KEY}",
        "--enrol-token": f"{tls}/{names.ENROL_TOKEN_FILE}",
        "--gossip-interval-ms": str(options.gossip_interval_ms),
        "--fsync-mode": options.fsync_mode,
        "--log-level": options.log_level,
        "--log-format": options.log_format,
        **_limit_flags(cluster.limits),
    }
    container: Manifest = {
        "name": names.CONTAINER,
        "image": image,
        "args": ["serve", *(part for pair in flags.items() for part in pair)],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [
            {"name": names.PEER_PORT_NAME, "containerPort": names.PEER_PORT, "protocol": "TCP"},
            {"name": names.METRICS_PORT_NAME, "containerPort": names.METRICS_PORT, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/startupz", 1, _STARTUP_SECONDS_MAX, 1),
        "livenessProbe": _probe("/livez", 10, 6, 5),
        "readinessProbe": _probe("/readyz", 2, 2, 2),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": names.USER,
            "runAsGroup": names.USER,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": names.DATA_VOLUME, "mountPath": names.DATA_MOUNT},
            {"name": names.SOCKET_VOLUME, "mountPath": names.SOCKET_MOUNT},
            {"name": names.TLS_VOLUME, "mountPath": names.TLS_MOUNT, "readOnly": True},
            {"name": names.MEMBERSHIP_VOLUME, "mountPath": names.MEMBERSHIP_MOUNT, "readOnly": True},
        ],
    }
    if cluster.resources:
        container["resources"] = deepcopy(dict(cluster.resources))
    if pull_policy is not None:
        container["imagePullPolicy"] = pull_policy
    return container


def _limit_flags(limits: MemberLimits) -> dict[str, str]:
    """Return flags for what is not the default: so no cluster rolls because the operator learned of a limit."""
    default = MemberLimits()
    wanted = {
        "--limit-entries": (limits.entries, default.entries),
        "--limit-bytes": (limits.size_bytes, default.size_bytes),
        "--limit-key-bytes": (limits.key_bytes, default.key_bytes),
        "--limit-value-bytes": (limits.value_bytes, default.value_bytes),
    }
    return {flag: str(value) for flag, (value, usual) in wanted.items() if value != usual}


def _probe(path: str, period_seconds: int, failures: int, timeout_seconds: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": names.METRICS_PORT_NAME},
        "periodSeconds": period_seconds,
        "failureThreshold": failures,
        "timeoutSeconds": timeout_seconds,
    }


def _give_socket(container: Manifest) -> None:
    """Mount the socket's folder and name both ways to the member, unless the container names them itself."""
    mount = {"name": names.SOCKET_VOLUME, "mountPath": names.SOCKET_MOUNT}
    container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    given = {variable["name"] for variable in container.get("env") or ()}
    added = [{"name": name, "value": value} for name, value in _APPLICATION_ENV.items() if name not in given]
    container["env"] = [*(container.get("env") or ()), *added]


def _project_token(spec: Manifest) -> None:
    wanted = spec.get("automountServiceAccountToken") is True
    spec["automountServiceAccountToken"] = False
    if not wanted:
        return
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        mounts = container.get("volumeMounts") or []
        if container["name"] != names.CONTAINER and all(mount["mountPath"] != names.TOKEN_MOUNT for mount in mounts):
            mount = {"name": names.TOKEN_VOLUME, "mountPath": names.TOKEN_MOUNT, "readOnly": True}
            container["volumeMounts"] = [*mounts, mount]
    sources: list[Mapping[str, Any]] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": names.TOKEN_VOLUME, "projected": {"sources": sources}}]


def _volumes(cluster: Cluster) -> list[Manifest]:
    trusted = {"name": names.authorities(cluster.name), "items": [{"key": names.CA_KEY, "path": names.CA_KEY}]}
    token = {
        "audience": names.enrolment_audience(cluster.cluster_id),
        "expirationSeconds": names.ENROL_TOKEN_SECONDS,
        "path": names.ENROL_TOKEN_FILE,
    }
    # The token is read through the pod's fsGroup, never by others: the kubelet sees to that.
    sources: list[Manifest] = [{"configMap": trusted}, {"serviceAccountToken": token}]
    return [
        {"name": names.SOCKET_VOLUME, "emptyDir": {}},
        {"name": names.TLS_VOLUME, "projected": {"sources": sources}},
        {"name": names.MEMBERSHIP_VOLUME, "configMap": {"name": names.membership(cluster.name)}},
    ]


def _pod_security(given: Mapping[str, Any]) -> Manifest:
    if "fsGroup" in given:
        return dict(given)
    return {"fsGroupChangePolicy": "OnRootMismatch", **given, "fsGroup": names.USER}


def _spread(cluster: Cluster) -> Manifest:
    """Members on one node fail together: prefer other nodes, insist on nothing."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(cluster.name)},
    }
