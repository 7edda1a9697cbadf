"""What the watches last said of each object: a cache of the API that every pass reads instead of asking again.

It holds nothing that cannot be read again. An older version never replaces a newer one, so what an apply returned
survives a watch event that was on its way. Anybody may set the label that the watches select by, so of the kinds that
the operator makes it holds those alone that have the name of a child of a resource there is: a few for each.
"""

from collections.abc import Iterator

from wavekv_operator import names
from wavekv_operator.ownership import OWNED_KINDS, child_names
from wavekv_operator.spec import Manifest

CHILD_KINDS = ("StatefulSet", "Pod", "Service", "ConfigMap", "Secret", "PodDisruptionBudget", "PersistentVolumeClaim")
"""Kinds whose objects carry the operator's labels; a pass sees those of its cluster."""
KINDS = (names.KIND, *CHILD_KINDS)

Key = tuple[str, str]
"""Namespace and name."""


class View:
    """Objects by kind, namespace and name."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Manifest]] = {kind: {} for kind in KINDS}

    def put(self, kind: str, manifest: Manifest) -> None:
        """Take a version of an object, unless a newer one of the same object is known or it is nobody's child."""
        if not self.wants(kind, manifest):
            return
        key = _key(manifest)
        held = self._objects[kind].get(key)
        manifest["metadata"].pop("managedFields", None)  # as large as the rest, and never read
        if held is None or not is_newer(held, manifest):
            self._objects[kind][key] = manifest

    def wants(self, kind: str, manifest: Manifest) -> bool:
        """Tell whether an object is one that a pass may ask for."""
        if kind not in OWNED_KINDS:
            return True
        namespace, name = _key(manifest)
        cluster = cluster_of(manifest)
        if cluster is None or (namespace, cluster) not in self._objects[names.KIND]:
            return False
        return name in child_names(cluster)[kind]

    def drop(self, kind: str, manifest: Manifest) -> None:
        """Forget an object that was deleted; one made anew under its name stays."""
        held = self._objects[kind].get(_key(manifest))
        if held is not None and held["metadata"]["uid"] == manifest["metadata"]["uid"]:
            del self._objects[kind][_key(manifest)]

    def get(self, kind: str, key: Key) -> Manifest | None:
        """Return an object, None if there is none."""
        return self._objects[kind].get(key)

    def all(self, kind: str) -> Iterator[Manifest]:
        """Return all objects of a kind."""
        return iter(tuple(self._objects[kind].values()))

    def children(self, cluster: Key) -> Iterator[tuple[str, Manifest]]:
        """Return the children of a cluster with their kinds."""
        namespace, name = cluster
        for kind in CHILD_KINDS:
            for manifest in self.all(kind):
                if manifest["metadata"]["namespace"] == namespace and cluster_of(manifest) == name:
                    yield kind, manifest


def cluster_of(manifest: Manifest) -> str | None:
    """Return the name of the cluster that a child belongs to."""
    name: str | None = (manifest["metadata"].get("labels") or {}).get(names.CLUSTER_LABEL)
    return name


def is_newer(first: Manifest, second: Manifest) -> bool:
    """Tell whether `first` is a later version of the same object than `second`.

    Versions are opaque by contract and numbers in fact; where they are no numbers the one that came last counts.
    """
    one, other = first["metadata"], second["metadata"]
    if one.get("uid") != other.get("uid"):
        return False
    try:
        return int(one["resourceVersion"]) > int(other["resourceVersion"])
    except (KeyError, ValueError):
        return False


def _key(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return (metadata["namespace"], metadata["name"])
