"""Writes a cluster's children: creates what is not there, changes what was made for this resource, adopts nothing.

Between what the watches said and a write, somebody may have put an object of their own in the place. So a write says
which object it means, and the API server refuses it for another.
"""

import logging
from typing import Protocol

from wavekv_operator import difference, names
from wavekv_operator.errors import ApiConflict, ChildNotOurs, DamagedObject
from wavekv_operator.ownership import check_claims, is_owned
from wavekv_operator.spec import Cluster, Manifest
from wavekv_operator.view import View, cluster_of

log = logging.getLogger(__name__)

_KINDS_WITH_STATE = ("ConfigMap", "Secret")
"""Kinds that say what cannot be built anew: never written over unread."""


class Api(Protocol):
    """What is needed of the Kubernetes API."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Make an object where there is none of its name."""
        ...

    async def update(self, manifest: Manifest, uid: str) -> Manifest:
        """Change the object with this uid."""
        ...

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid."""
        ...

    async def metadata(self, kind: str, namespace: str, name: str | None = None) -> list[Manifest]:
        """Return metadata of the objects of a kind, or of the one of a name."""
        ...


class ChildrenApi:
    """Writes children and puts what they became into the view."""

    def __init__(self, api: Api, view: View) -> None:
        self._api = api
        self._view = view

    async def applied(self, cluster: Cluster, manifest: Manifest) -> None:
        """Apply a manifest if the live object says anything else. Raises as `apply`."""
        wanted = difference.marked(manifest)
        metadata = manifest["metadata"]
        if difference.differs(wanted, self._view.get(manifest["kind"], (metadata["namespace"], metadata["name"]))):
            await self.apply(cluster, wanted)

    async def apply(self, cluster: Cluster, manifest: Manifest) -> bool:
        """Make a child say what the manifest says; tell whether that changed anything.

        Raises:
            ChildNotOurs: an object of its name, or a claim that it would take, was not made for this resource.
            DamagedObject: it was, but has lost the labels by which it is found.
            ApiError: refused, or no answer.
        """
        kind, metadata = manifest["kind"], manifest["metadata"]
        live = self._view.get(kind, (metadata["namespace"], metadata["name"]))
        if live is not None and not is_owned(live, cluster.uid):
            raise ChildNotOurs(kind, metadata["name"])
        if kind == "StatefulSet":
            await self._check_claims(cluster, manifest, live)
        if live is None:
            applied = await self._created(cluster, manifest)
        else:
            applied = await self._api.update(manifest, live["metadata"]["uid"])
        self._view.put(kind, applied)
        changed = live is None or live["metadata"]["resourceVersion"] != applied["metadata"]["resourceVersion"]
        if changed:
            log.info("%s/%s: applied %s", metadata["namespace"], metadata["name"], kind)
        return changed

    async def _created(self, cluster: Cluster, manifest: Manifest) -> Manifest:
        kind, metadata = manifest["kind"], manifest["metadata"]
        try:
            return await self._api.create(manifest)
        except ApiConflict:
            found = await self._api.metadata(kind, metadata["namespace"], metadata["name"])
            if not found:
                raise  # it went meanwhile; the next pass makes it
            if not is_owned(found[0], cluster.uid):
                raise ChildNotOurs(kind, metadata["name"]) from None
            if kind not in _KINDS_WITH_STATE:
                return await self._api.update(manifest, found[0]["metadata"]["uid"])
            if cluster_of(found[0]) == cluster.name:
                raise  # the watch has yet to bring it
        labels = f"{names.CLUSTER_LABEL}={cluster.name} {names.MANAGED_SELECTOR}"
        raise DamagedObject(
            f"the {kind} {metadata['name']} has lost its labels; give them back: "
            f"kubectl label --overwrite {kind.lower()} {metadata['name']} {labels}"
        )

    async def _check_claims(self, cluster: Cluster, manifest: Manifest, live: Manifest | None) -> None:
        """Check what the set would take for its new pods: claims are found by name, whoever made them."""
        before = live["spec"].get("replicas", 1) if live is not None else 0
        new = [names.member(cluster.name, ordinal) for ordinal in range(before, manifest["spec"]["replicas"])]
        if new:
            listed = await self._api.metadata("PersistentVolumeClaim", cluster.namespace)
            check_claims(cluster.name, new, listed)
