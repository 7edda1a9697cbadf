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
OVERRIDE_ANNOTATION = f"{GROUP}/override-epoch"
"""On the resource: the epoch that members have to take although it is out of their reach."""
OVERRIDDEN_ANNOTATION = f"{GROUP}/overridden-epoch"
"""On the membership's ConfigMap: `EPOCH<FROM`, the last override that was begun and the epoch it overrules."""
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
ENROL_TOKEN_FILE = "enrolment-token"  # noqa: S105 - a file's name
ENROL_TOKEN_SECONDS = 3600
"""Life of the token that a member shows to be enrolled; the kubelet renews it."""
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

POD_NAME_CLAIM = "authentication.kubernetes.io/pod-name"
POD_UID_CLAIM = "authentication.kubernetes.io/pod-uid"
"""What a TokenReview says of the pod that a token is bound to."""

CERT_KEY = "tls.crt"
PRIVATE_KEY_KEY = "tls.key"
CA_KEY = "ca.crt"
CA_PRIVATE_KEY_KEY = "ca.key"

_CLUSTER_IDS = uuid.UUID("6d9c9a0e-5a36-4f4c-9f0e-7d1c5f0b8f0a")
_SECRET_SUFFIXES = ("-ca", "-operator-tls", "-member-tls")
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


def authorities(cluster: str) -> str:
    """Return the name of the ConfigMap with the certificates of the authorities that members trust."""
    return f"{cluster}-authorities"


def shared_tls_secret(cluster: str) -> str:
    """Return the name of the Secret with the certificate that all members of earlier versions shared."""
    return f"{cluster}-member-tls"


def operator_tls_secret(cluster: str) -> str:
    """Return the name of the Secret with the operator's certificate."""
    return f"{cluster}-operator-tls"


def is_reserved_secret(name: str) -> bool:
    """Tell whether a Secret of this name may be one of a cluster's, this one or another."""
    return name.endswith(_SECRET_SUFFIXES)


def is_reserved_claim(name: str) -> bool:
    """Tell whether a claim of this name may be a member's, of this cluster or another."""
    return name.startswith(f"{DATA_VOLUME}-")


def peer_host(name: str, cluster: str, namespace: str) -> str:
    """Return the host name by which a member's peer plane is reached; `name` is its own, or `{name}`."""
    return f"{name}.{peers_service(cluster)}.{namespace}.svc"


def peer_url(cluster: str, namespace: str) -> str:
    """Return the URL pattern of the members' peer planes, with `{name}` in it."""
    return f"https://{peer_host('{name}', cluster, namespace)}:{PEER_PORT}"


def member_uri(cluster_uuid: str, name: str) -> str:
    """Return the URI SAN that makes a certificate the one of a member."""
    return f"wavekv://{cluster_uuid}/member/{name}"


def operator_uri(cluster_uuid: str) -> str:
    """Return the URI SAN that makes a certificate the operator's."""
    return f"wavekv://{cluster_uuid}/operator"


def enrolment_audience(cluster_uuid: str) -> str:
    """Return the audience of the tokens by which members are enrolled; the API server takes none of it."""
    return f"{GROUP}/enrolment/{cluster_uuid}"


def service_account(namespace: str, name: str) -> str:
    """Return the user name that the API server knows a service account by."""
    return f"system:serviceaccount:{namespace}:{name}"


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
