"""Decides the next membership document: who belongs to the cluster, since which epoch (R9, R10).

A pure function of the document there is, the wanted size and what the members say. The epoch only grows; one step
changes one thing. In order: an epoch that members know and the operator lost is taken over; founding ends once every
first member has reported; a member that was drained and is covered leaves; members that report are admitted.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from wavekv_operator import names
from wavekv_operator.errors import DamagedObject
from wavekv_operator.spec import Cluster, Manifest

Hindrance = Literal["MemberUnreachable", "MemberHealing", "NotCovered", "ReplicaUnreachable"]


@dataclass(frozen=True, slots=True)
class Document:
    """One epoch."""

    epoch: int
    members: tuple[str, ...]
    admitted: Mapping[str, int]
    """Epoch in which each member was last admitted: a volume that healed for an older one has to heal again."""
    bootstrap: bool = False

    def body(self, cluster: Cluster) -> Mapping[str, Any]:
        """Return the JSON that members read."""
        return {
            "cluster_id": cluster.cluster_id,
            "epoch": self.epoch,
            "bootstrap": self.bootstrap,
            "members": list(self.members),
            "admitted": {name: self.admitted[name] for name in self.members},
            "peer_url": names.peer_url(cluster.name, cluster.namespace),
        }


@dataclass(frozen=True, slots=True)
class Drain:
    """What a member says of its drain."""

    draining: bool
    complete: bool
    healing: bool
    covered_by: Mapping[str, int]
    """Process number of each other member whose report covers all that this one holds."""
    waiting_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberView:
    """What one member said when it was last asked; only members that answered have one."""

    name: str
    node_id: int
    uuid: str
    phase: str
    ready: bool
    healing: bool
    draining: bool
    converged: bool
    inc: int
    epoch: int | None
    members: tuple[str, ...]
    admitted_epoch: int | None
    drain: Drain | None = None

    @property
    def known(self) -> int:
        """The newest epoch it knows, 0 if none."""
        return self.epoch or 0


@dataclass(frozen=True, slots=True)
class ScaleDown:
    """The member that leaves next, and what keeps it."""

    member: str
    draining: bool
    hindrance: Hindrance | None = None
    detail: str = ""


def read_document(config_map: Manifest | None) -> Document | None:
    """Return the document in `config_map`, None if there is no such object.

    Raises:
        DamagedObject: it is there and says something else.
    """
    if config_map is None:
        return None
    try:
        raw = json.loads(config_map["data"][names.MEMBERSHIP_KEY])
        members = tuple(str(name) for name in raw["members"])
        admitted = {str(name): int(epoch) for name, epoch in raw["admitted"].items()}
        document = Document(int(raw["epoch"]), members, admitted, bool(raw["bootstrap"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        name = config_map["metadata"]["name"]
        raise DamagedObject(
            f"the ConfigMap {name} is no membership ({error!r}); delete it to have it made anew"
        ) from error
    if document.epoch < 1 or not members or set(members) - set(admitted):
        raise DamagedObject(
            f"the ConfigMap {config_map['metadata']['name']} is no membership; delete it to have it made anew"
        )
    return document


def next_document(
    cluster: Cluster, held: Document | None, views: Mapping[str, MemberView], *, has_claims: bool, has_pods: bool
) -> tuple[Document | None, ScaleDown | None]:
    """Return the document that should be in force (None: not known yet), and the member that is leaving."""
    if held is None:
        return _first(cluster, views, has_claims=has_claims, has_pods=has_pods), None
    document = _taken_over(cluster, held, views)
    leaving = _leaving(cluster, document, views)
    if document is not held:
        return document, leaving
    if document.bootstrap and all(name in views for name in document.members):
        return replace(document, epoch=document.epoch + 1, bootstrap=False), leaving
    if leaving is not None and leaving.hindrance is None and leaving.draining:
        return _without(document, leaving.member), None
    return _with_reporting(cluster, document, views), leaving


def _first(cluster: Cluster, views: Mapping[str, MemberView], *, has_claims: bool, has_pods: bool) -> Document | None:
    """Return the document of a cluster that has none: a new one, or one whose ConfigMap was lost."""
    newest = _newest(views)
    if newest is not None:
        return _following(newest, views)
    if has_pods:
        return None  # somebody knows the epoch: wait until a member answers
    # Volumes that were kept may hold data: then nobody is a founder, and new volumes heal from the old ones.
    return Document(1, cluster.wanted, dict.fromkeys(cluster.wanted, 1), bootstrap=not has_claims)


def _newest(views: Mapping[str, MemberView]) -> MemberView | None:
    informed = [view for view in views.values() if view.known]
    return max(informed, key=lambda view: (view.known, view.name), default=None)


def _taken_over(cluster: Cluster, held: Document, views: Mapping[str, MemberView]) -> Document:
    """Return `held`, or what the members' newer epoch makes of it: volumes outlive the custom resource.

    Where the resource was made again in between, some may know an epoch of the same number that names others. Whoever
    belongs to either then belongs to the next: the ones too many are drained, nobody leaves by the way.
    """
    newest = _newest(views)
    if newest is None or newest.known < held.epoch:
        return held
    if newest.known > held.epoch:
        return _following(newest, views)
    members = {*held.members, *(name for view in views.values() if view.known == held.epoch for name in view.members)}
    agreed = all(set(view.members) == members for view in views.values() if view.known == held.epoch)
    if agreed and members == set(held.members):
        return held
    return _following(replace(newest, members=_in_order(cluster, members)), views)


def _in_order(cluster: Cluster, members: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(members, key=lambda name: names.ordinal(cluster.name, name) or 0))


def _following(newest: MemberView, views: Mapping[str, MemberView]) -> Document:
    """Return the epoch after the newest that members know, with the same members.

    Only a member that knows that epoch too knows when it was admitted; any other has to heal again, which is always
    safe.
    """
    epoch = newest.known + 1
    admitted = dict.fromkeys(newest.members, epoch)
    for name, view in views.items():
        if name in admitted and view.known == newest.known and view.admitted_epoch is not None:
            admitted[name] = view.admitted_epoch
    return Document(epoch, newest.members, admitted)


def _without(document: Document, name: str) -> Document:
    members = tuple(other for other in document.members if other != name)
    admitted = {other: document.admitted[other] for other in members}
    return Document(document.epoch + 1, members, admitted)


def _with_reporting(cluster: Cluster, document: Document, views: Mapping[str, MemberView]) -> Document:
    """Return `document` with the wanted members that report and are not in it."""
    new = [name for name in cluster.wanted if name not in document.members and name in views]
    if not new:
        return document
    epoch = document.epoch + 1
    members = _in_order(cluster, {*document.members, *new})
    return Document(epoch, members, {**document.admitted, **dict.fromkeys(new, epoch)})


def _leaving(cluster: Cluster, document: Document, views: Mapping[str, MemberView]) -> ScaleDown | None:
    """Return the member with the highest ordinal beyond the wanted size, and whether it may go (R10)."""
    surplus = [name for name in document.members if name not in cluster.wanted]
    if not surplus or len(document.members) == 1:
        return None
    name = max(surplus, key=lambda other: names.ordinal(cluster.name, other) or 0)
    if cluster.forced == name and cluster.prevented:
        return ScaleDown(name, True)  # tried in vain first, so that a forgotten annotation forces nothing by itself
    view = views.get(name)
    if view is None:
        return ScaleDown(name, False, "MemberUnreachable", f"{name} does not answer")
    drain = view.drain
    if drain is None or not drain.draining:
        return ScaleDown(name, False)
    if drain.healing:
        return ScaleDown(name, True, "MemberHealing", f"{name} has not healed since it started")
    return _coverage(name, drain, [other for other in document.members if other != name], views)


def _coverage(name: str, drain: Drain, others: list[str], views: Mapping[str, MemberView]) -> ScaleDown:
    """Check that every other member, in the process that runs now, covers all that `name` holds."""
    silent = [other for other in others if other not in views]
    if silent:
        return ScaleDown(name, True, "ReplicaUnreachable", f"{', '.join(silent)} would have to hold what {name} holds")
    stale = [other for other in others if drain.covered_by.get(other) != views[other].inc]
    if stale or not drain.complete:
        what = ", ".join(stale or drain.waiting_for) or "its last writes"
        return ScaleDown(name, True, "NotCovered", f"{name} waits for {what}")
    return ScaleDown(name, True)


def stateful_set_size(
    cluster: Cluster, document: Document, views: Mapping[str, MemberView], current: int | None
) -> int:
    """Return the replicas of the StatefulSet: the wanted ones, and those that must not go yet.

    A pod beyond the wanted size goes once its member is no longer in the document and every remaining member that
    answers knows so; otherwise its last word could still be listened to.
    """
    highest = max(names.ordinal(cluster.name, name) or 0 for name in document.members) + 1
    size = max(cluster.replicas, highest)
    told = all((views[name].epoch or 0) >= document.epoch for name in document.members if name in views)
    if current is not None and size < current and not told:
        return current
    return size
