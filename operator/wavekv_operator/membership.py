"""Decides the next membership document: who belongs to the cluster, since which epoch (R9, R10).

A pure function of the document there is, the wanted size and what the members say. The epoch only grows, unless an
annotation overrides it; one step changes one thing. In order: an override that was not carried out yet; an epoch that
members know and the operator lost is gone above; founding ends once every first member has reported; a member that was
drained and is covered leaves; members that report are admitted.

Which epoch is in force is the operator's word alone. A newer one that members report is gone above where they show it
signed by the cluster's authority; a bare report counts only for a resource that was made again over volumes it knows
nothing of, and then adds members that have such a volume, and removes nobody.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from wavekv_operator import names
from wavekv_operator.errors import DamagedObject
from wavekv_operator.spec import EPOCH_JUMP_MAX, Cluster, Manifest

Hindrance = Literal["MemberUnreachable", "MemberHealing", "NotCovered", "ReplicaUnreachable"]


_SHOWN_MAX = 10
"""Members named in a message; the rest is a number."""


@dataclass(frozen=True, slots=True)
class Override:
    """An epoch that was set against what members know: what they know up to `overruled` counts no longer."""

    epoch: int
    overruled: int

    def __str__(self) -> str:
        """Return the annotation's value."""
        return f"{self.epoch}<{self.overruled}"


@dataclass(frozen=True, slots=True)
class Document:
    """One epoch."""

    epoch: int
    members: tuple[str, ...]
    admitted: Mapping[str, int]
    """Epoch in which each member was last admitted: a volume that healed for an older one has to heal again."""
    bootstrap: bool = False
    override: Override | None = None
    """The last one, for members that have yet to hear of it."""

    def overrules(self, known: int) -> bool:
        """Tell whether a member that knows the epoch `known` has to be told of this one as an override."""
        if self.override is None:
            return False
        return self.epoch < known <= self.override.overruled or self.epoch - known > EPOCH_JUMP_MAX

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
    certificate: bytes = b""
    """The certificate it showed, DER."""

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


def read_document(config_map: Manifest | None) -> tuple[Document, Mapping[str, Any]] | tuple[None, None]:
    """Return the document in `config_map` and what it was read from, None if there is no such object.

    Raises:
        DamagedObject: it is there and says something else.
    """
    if config_map is None:
        return None, None
    try:
        raw = json.loads(config_map["data"][names.MEMBERSHIP_KEY])
        override = _read_override(config_map["metadata"].get("annotations") or {})
        return replace(parse_document(raw), override=override), raw
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise damaged(config_map, repr(error)) from error


def parse_document(raw: Mapping[str, Any]) -> Document:
    """Return the document that decoded JSON says.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    members = tuple(str(name) for name in raw["members"])
    admitted = {str(name): int(epoch) for name, epoch in raw["admitted"].items()}
    document = Document(int(raw["epoch"]), members, admitted, bool(raw["bootstrap"]))
    if document.epoch < 1 or not members or set(members) - set(admitted):
        raise ValueError("it names no members, or not when they were admitted")
    return document


def damaged(config_map: Manifest, why: str) -> DamagedObject:
    """Return the error of a membership that cannot be believed."""
    name = config_map["metadata"]["name"]
    return DamagedObject(f"the ConfigMap {name} is no membership ({why}); delete it to have it made anew")


def _read_override(annotations: Mapping[str, str]) -> Override | None:
    text = annotations.get(names.OVERRIDDEN_ANNOTATION)
    if text is None:
        return None
    epoch, _, overruled = text.partition("<")
    return Override(int(epoch), int(overruled))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a decision is made on besides what members say."""

    volumes: frozenset[str] = frozenset()
    """Members that have a claim."""
    has_pods: bool = False
    proven: Document | None = None
    """The newest document that a member shows signed by the cluster's authority."""


def next_document(
    cluster: Cluster, held: Document | None, views: Mapping[str, MemberView], evidence: Evidence
) -> tuple[Document | None, ScaleDown | None]:
    """Return the document that should be in force (None: not known yet), and the member that is leaving."""
    override = _override(cluster, held, views)
    if override is not None:
        return override, None
    if held is None:
        return _first(cluster, views, evidence), None
    document = _taken_over(cluster, held, views, evidence)
    leaving = _leaving(cluster, document, views)
    if document is not held:
        return document, leaving
    if document.bootstrap and all(name in views for name in document.members):
        return replace(document, epoch=document.epoch + 1, bootstrap=False), leaving
    if leaving is not None and leaving.hindrance is None and leaving.draining:
        return _without(document, leaving.member), None
    return _with_reporting(cluster, document, views), leaving


def _override(cluster: Cluster, held: Document | None, views: Mapping[str, MemberView]) -> Document | None:
    """Return the document of an override that was not begun yet, None without one.

    The members stay those that the operator knows, or the wanted ones: what is overruled may name anybody.
    """
    epoch, begun = cluster.override, held.override if held is not None else None
    if epoch is None or epoch == cluster.overridden or (begun is not None and begun.epoch == epoch):
        return None
    members = held.members if held is not None else cluster.wanted
    admitted = dict(held.admitted) if held is not None else {}
    overruled = max((view.known for view in views.values()), default=0)
    overruled = max(overruled, held.epoch if held is not None else 0)
    kept = {name: min(admitted.get(name, epoch), epoch) for name in members}
    return Document(epoch, members, kept, override=Override(epoch, overruled))


def _first(cluster: Cluster, views: Mapping[str, MemberView], evidence: Evidence) -> Document | None:
    """Return the document of a cluster that has none: a new one, or one whose ConfigMap was lost."""
    informed = [view for view in views.values() if view.known]
    if evidence.proven is not None:
        return _above(evidence.proven, None)
    if informed:
        spread = max(view.known for view in informed) - min(view.known for view in informed)
        # Too far apart for one epoch that all follow: nobody's word is taken for it.
        return _following(cluster, (), views, evidence) if spread <= EPOCH_JUMP_MAX else None
    if evidence.has_pods:
        return None  # somebody knows the epoch: wait until a member answers
    # Volumes that were kept may hold data: then nobody is a founder, and new volumes heal from the old ones.
    return Document(1, cluster.wanted, dict.fromkeys(cluster.wanted, 1), bootstrap=not evidence.volumes)


def not_ours(document: Document | None, views: Mapping[str, MemberView]) -> str | None:
    """Return what is said of members whose epoch is not of this operator, None where there are none."""
    known = {name: view.known for name, view in views.items() if view.known}
    base = document.epoch if document is not None else min(known.values(), default=0)
    reach = base if document is not None else base + EPOCH_JUMP_MAX
    foreign = [name for name in sorted(known) if known[name] > reach and not _is_told(document, known[name])]
    if not foreign:
        return None
    said = _some([f"{name} knows epoch {known[name]}" for name in foreign])
    return (
        f"{said}, which this operator has not signed and does not follow (it is at {base}); "
        f"to have every member take another epoch all the same: annotate {names.OVERRIDE_ANNOTATION}={base + 1}"
    )


def _some(listed: Sequence[str]) -> str:
    more = f" and {len(listed) - _SHOWN_MAX} more" if len(listed) > _SHOWN_MAX else ""
    return ", ".join(listed[:_SHOWN_MAX]) + more


def _is_told(document: Document | None, known: int) -> bool:
    return document is not None and document.overrules(known)


def _taken_over(cluster: Cluster, held: Document, views: Mapping[str, MemberView], evidence: Evidence) -> Document:
    """Return `held`, or one above an epoch that the operator lost: volumes outlive the custom resource.

    Where the resource was made again in between, some may know an epoch of the same number that names others. Whoever
    belongs to either then belongs to the next: the ones too many are drained, nobody leaves by the way.
    """
    proven = evidence.proven
    if proven is not None and proven.epoch > held.epoch and not held.overrules(proven.epoch):
        return _above(proven, held.override)
    made_again = held.epoch == 1 and not held.bootstrap
    reporting = [view for view in views.values() if held.epoch <= view.known <= held.epoch + EPOCH_JUMP_MAX]
    if not made_again or not reporting:
        return held
    members = set(held.members)
    if all(view.known == held.epoch and set(_known_members(cluster, view, evidence)) == members for view in reporting):
        return held
    return _following(cluster, held.members, {view.name: view for view in reporting}, evidence)


def _above(proven: Document, override: Override | None) -> Document:
    return replace(proven, epoch=proven.epoch + 1, bootstrap=False, override=override)


def _known_members(cluster: Cluster, view: MemberView, evidence: Evidence) -> list[str]:
    """Return the members that a report names, without those that no volume vouches for."""
    return [name for name in view.members if name in evidence.volumes or name in cluster.wanted]


def _in_order(cluster: Cluster, members: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(members, key=lambda name: names.ordinal(cluster.name, name) or 0))


def _following(cluster: Cluster, kept: Iterable[str], views: Mapping[str, MemberView], evidence: Evidence) -> Document:
    """Return the epoch after the newest that members report, with the members kept and those that it names.

    Only a member that knows that epoch too knows when it was admitted; any other has to heal again, which is always
    safe.
    """
    known = max(view.known for view in views.values())
    newest = [view for view in views.values() if view.known == known]
    epoch = known + 1
    named = {*kept, *(name for view in newest for name in _known_members(cluster, view, evidence))}
    members = _in_order(cluster, named or cluster.wanted)
    admitted = dict.fromkeys(members, epoch)
    for view in newest:
        if view.name in admitted and view.admitted_epoch is not None:
            admitted[view.name] = min(view.admitted_epoch, epoch)
    return Document(epoch, members, admitted)


def _without(document: Document, name: str) -> Document:
    members = tuple(other for other in document.members if other != name)
    admitted = {other: document.admitted[other] for other in members}
    return replace(document, epoch=document.epoch + 1, members=members, admitted=admitted)


def _with_reporting(cluster: Cluster, document: Document, views: Mapping[str, MemberView]) -> Document:
    """Return `document` with the wanted members that report and are not in it."""
    new = [name for name in cluster.wanted if name not in document.members and name in views]
    if not new:
        return document
    epoch = document.epoch + 1
    members = _in_order(cluster, {*document.members, *new})
    return replace(document, epoch=epoch, members=members, admitted={**document.admitted, **dict.fromkeys(new, epoch)})


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
        detail = f"{_some(silent)} would have to hold what {name} holds"
        return ScaleDown(name, True, "ReplicaUnreachable", detail)
    stale = [other for other in others if drain.covered_by.get(other) != views[other].inc]
    if stale or not drain.complete:
        what = _some(stale or drain.waiting_for) or "its last writes"
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
    told = all(views[name].known == document.epoch for name in document.members if name in views)
    if current is not None and size < current and not told:
        return current
    return size
