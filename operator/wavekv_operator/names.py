"""Spells every name that the operator gives: children, labels, annotations, paths and ports in a pod.

The member knows the paths and ports only through the flags it is started with; `tests/contract` compares both sides.
"""

import re
import uuid
from typing import Any

GROUP = "wavekv.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "WaveKVCluster"
PLURAL = "wavekvclusters"
FIELD_MANAGER = "wavekv-operator"

CLUSTER_LABEL = f"{GROUP}/cluster"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_SELECTOR = f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"
"""Label selector of everything the operator made."""

APPLIED_ANNOTATION = f"{GROUP}/applied"
"""Digest of what was last applied, so that a field that is no longer wanted is noticed."""
FORCE_ANNOTATION = f"{GROUP}/force-scale-down"
PAUSED_ANNOTATION = f"{GROUP}/paused"

CONTAINER = "wavekv"
RESERVED_PREFIX = "wavekv-"
"""Volumes and ports of ours begin so; a template's may not."""
DATA_VOLUME = "wavekv-data"
SOCKET_VOLUME = "wavekv-socket"
TLS_VOLUME = "wavekv-tls"
MEMBERSHIP_VOLUME = "wavekv-membership"
TOKEN_VOLUME = "wavekv-api-access"  # noqa: S105 - a volume's name

DATA_MOUNT = "/var/lib/wavekv"
DATA_DIR = "/var/lib/wavekv/member"
"""Below the mount, because a fresh file system's root is not empty everywhere (lost+found)."""
SOCKET_MOUNT = "/run/wavekv"
SOCKET = "/run/wavekv/wavekv.sock"
TLS_MOUNT = "/etc/wavekv/tls"
MEMBERSHIP_MOUNT = "/etc/wavekv/membership"
MEMBERSHIP_KEY = "membership.json"
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path

HTTP_PORT = 7070
RESP_PORT = 7071
PEER_PORT = 7072
METRICS_PORT = 7073
PEER_PORT_NAME = "wavekv-peers"
METRICS_PORT_NAME = "wavekv-metrics"
PORTS = (HTTP_PORT, RESP_PORT, PEER_PORT, METRICS_PORT)

USER = 65532
"""User and group of the member's container, and the pod's fsGroup unless the template sets one."""

CERT_KEY = "tls.crt"
PRIVATE_KEY_KEY = "tls.key"
CA_KEY = "ca.crt"
CA_PRIVATE_KEY_KEY = "ca.key"

_CLUSTER_IDS = uuid.UUID("6d9c9a0e-5a36-4f4c-9f0e-7d1c5f0b8f0a")
_ORDINAL = re.compile(r"(?P<cluster>.+)-(?P<ordinal>0|[1-9][0-9]*)")


def labels(cluster: str) -> dict[str, str]:
    """Return the labels of every child of `cluster`."""
    return {
        "app.kubernetes.io/name": "wavekv",
        "app.kubernetes.io/instance": cluster,
        MANAGED_BY_LABEL: FIELD_MANAGER,
        CLUSTER_LABEL: cluster,
    }


def selector(cluster: str) -> dict[str, str]:
    """Return the labels that select the pods of `cluster`."""
    return {CLUSTER_LABEL: cluster}


def cluster_id(namespace: str, cluster: str) -> str:
    """Return the cluster's id: the same for a resource made again, so that it opens the volumes it left."""
    return str(uuid.uuid5(_CLUSTER_IDS, f"{namespace}/{cluster}"))


def member(cluster: str, ordinal: int) -> str:
    """Return the name of a member, which is its pod's."""
    return f"{cluster}-{ordinal}"


def ordinal(cluster: str, name: str) -> int | None:
    """Return the ordinal of a member's name, None if it is not one of `cluster`."""
    match = _ORDINAL.fullmatch(name)
    return int(match["ordinal"]) if match and match["cluster"] == cluster else None


def claim(member_name: str) -> str:
    """Return the name of a member's claim, as the StatefulSet controller spells it."""
    return f"{DATA_VOLUME}-{member_name}"


def peers_service(cluster: str) -> str:
    """Return the name of the headless Service."""
    return f"{cluster}-peers"


def membership(cluster: str) -> str:
    """Return the name of the ConfigMap with the membership."""
    return f"{cluster}-membership"


def ca_secret(cluster: str) -> str:
    """Return the name of the Secret with the authority; it is never mounted."""
    return f"{cluster}-ca"


def member_tls_secret(cluster: str) -> str:
    """Return the name of the Secret with the members' certificate."""
    return f"{cluster}-member-tls"


def operator_tls_secret(cluster: str) -> str:
    """Return the name of the Secret with the operator's certificate."""
    return f"{cluster}-operator-tls"


def peer_host(name: str, cluster: str, namespace: str) -> str:
    """Return the host name by which a member's peer plane is reached; `name` may be a wildcard."""
    return f"{name}.{peers_service(cluster)}.{namespace}.svc"


def peer_url(cluster: str, namespace: str) -> str:
    """Return the URL pattern of the members' peer planes, with `{name}` in it."""
    return f"https://{peer_host('{name}', cluster, namespace)}:{PEER_PORT}"


def identity_uri(cluster_uuid: str, role: str) -> str:
    """Return the URI SAN that gives a certificate its role."""
    return f"wavekv://{cluster_uuid}/{role}"


def owner_reference(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return the reference by which Kubernetes removes a child with its WaveKVCluster.

    It does not block the owner's deletion: `kubectl delete` works without the operator (G10).
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": cluster["metadata"]["name"],
        "uid": cluster["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
