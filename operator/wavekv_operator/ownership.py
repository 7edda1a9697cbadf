"""Tells whether an object was made for a resource: by the uid in its owner reference, never by labels or a name.

A child is created, never adopted: what has its name and is not its resource's is left alone, and named in the
condition `Accepted`. Pods are the StatefulSet's. Claims have no owner where volumes are kept, and are found again by
name: a claim counts where it has the cluster's label, which the StatefulSet gave it or somebody who means it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from wavekv_operator import names
from wavekv_operator.errors import ChildNotOurs
from wavekv_operator.spec import Cluster, Manifest

OWNED_KINDS = ("StatefulSet", "Service", "ConfigMap", "Secret", "PodDisruptionBudget")
"""Kinds of the objects that the operator makes itself."""


def is_owned(manifest: Mapping[str, Any], uid: str) -> bool:
    """Tell whether the object's controller is the one with this uid."""
    owners = manifest["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") is True and owner.get("uid") == uid for owner in owners)


def own_children(cluster: Cluster, found: Iterable[tuple[str, Manifest]]) -> dict[tuple[str, str], Manifest]:
    """Return those of the labelled objects that are the cluster's, by kind and name.

    Raises:
        ChildNotOurs: one that has a child's name is not.
    """
    listed = [(kind, manifest) for kind, manifest in found]
    children: dict[tuple[str, str], Manifest] = {}
    for kind, manifest in listed:
        if kind in OWNED_KINDS:
            name = manifest["metadata"]["name"]
            if is_owned(manifest, cluster.uid):
                children[kind, name] = manifest
            elif name in child_names(cluster.name)[kind] and name != names.shared_tls_secret(cluster.name):
                raise ChildNotOurs(kind, name)  # the shared Secret is made no more: another's is in nobody's way
    live_set = children.get(("StatefulSet", cluster.name))
    for kind, manifest in listed:
        name = manifest["metadata"]["name"]
        if kind == "Pod" and live_set is not None and is_owned(manifest, live_set["metadata"]["uid"]):
            children[kind, name] = manifest
        if kind == "PersistentVolumeClaim" and is_claim(cluster.name, name):
            children[kind, name] = manifest
    return children


def child_names(cluster: str) -> Mapping[str, tuple[str, ...]]:
    """Return the names of every object that is made for a cluster, or once was, by kind."""
    return {
        "StatefulSet": (cluster,),
        "Service": (cluster, names.peers_service(cluster)),
        "ConfigMap": (names.membership(cluster), names.authorities(cluster)),
        "Secret": (names.ca_secret(cluster), names.operator_tls_secret(cluster), names.shared_tls_secret(cluster)),
        "PodDisruptionBudget": (cluster,),
    }


def is_claim(cluster: str, name: str) -> bool:
    """Tell whether a claim's name is that of a member's of `cluster`."""
    prefix = f"{names.DATA_VOLUME}-"
    return name.startswith(prefix) and names.ordinal(cluster, name.removeprefix(prefix)) is not None


def check_claims(cluster: str, members: Iterable[str], listed: Iterable[Mapping[str, Any]]) -> None:
    """Check the claims that a StatefulSet would take by their names alone; `listed` are all of the namespace.

    Raises:
        ChildNotOurs: one of them is not labelled as this cluster's.
    """
    labelled = {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in listed}
    for member in members:
        name = names.claim(member)
        if name in labelled and labelled[name].get(names.CLUSTER_LABEL) != cluster:
            way_out = (
                f"delete it, or give the data in it to {member} by the labels "
                f"{names.CLUSTER_LABEL}={cluster} and {names.MANAGED_SELECTOR}"
            )
            raise ChildNotOurs("PersistentVolumeClaim", name, way_out)
