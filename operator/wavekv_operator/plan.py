"""Decides what one pass over a cluster does: an ordered list of actions from what is wanted and what is seen.

Pure: the loop carries the actions out, in order, and stops at the first that the Kubernetes API refuses. The order is
what makes scale-down safe (G7): the membership is written down before it is published, published before a pod goes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from wavekv_operator import difference, names, signatures, tls
from wavekv_operator.membership import (
    Document,
    Evidence,
    MemberView,
    ScaleDown,
    damaged,
    next_document,
    read_document,
    stateful_set_size,
)
from wavekv_operator.resources import children
from wavekv_operator.settings import Settings
from wavekv_operator.spec import Cluster, Manifest


@dataclass(frozen=True, slots=True)
class Apply:
    """Make an object say what the manifest says."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an object that is no longer wanted."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Give a member the membership; as an override where it would not take it otherwise."""

    member: str
    document: Mapping[str, Any]
    override: bool = False


@dataclass(frozen=True, slots=True)
class StartDrain:
    """Have a member stop accepting writes before it leaves."""

    member: str


@dataclass(frozen=True, slots=True)
class CancelDrain:
    """Have a member accept writes again: it stays."""

    member: str


Action = Apply | Remove | Publish | StartDrain | CancelDrain


@dataclass(frozen=True, slots=True)
class Certificate:
    """How it stands with a member's certificate."""

    expires: datetime | None = None
    """End of the one that it shows, None where it shows none that holds."""
    missing: bool = False
    """Whether it answers without one."""
    refusal: str | None = None
    """Why it gets none, where it asked in vain."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there: the children by kind and name, and what the members that answered say."""

    children: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    pods: Mapping[str, Manifest] = field(default_factory=dict)
    claims: frozenset[str] = frozenset()
    views: Mapping[str, MemberView] = field(default_factory=dict)
    proven: Document | None = None
    """The newest document that a member shows signed by the cluster's authority."""
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    """How it stands with the certificate of each member that has a pod."""

    def child(self, kind: str, name: str) -> Manifest | None:
        """Return a child, None if it is not there."""
        return self.children.get((kind, name))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and what it was decided on."""

    actions: tuple[Action, ...]
    document: Document | None
    """The membership that is in force after the actions."""
    leaving: ScaleDown | None
    replicas: int
    """Pods there should be now; more than wanted while members drain."""


def make_plan(cluster: Cluster, seen: Observed, settings: Settings, signer: tls.Authority) -> Plan:
    """Return what a pass has to do.

    Raises:
        DamagedObject: the membership's ConfigMap holds something else.
    """
    live_set = seen.child("StatefulSet", cluster.name)
    config_map = seen.child("ConfigMap", names.membership(cluster.name))
    held, raw = read_document(config_map)
    if config_map is not None and raw is not None and not _is_believed(raw, live_set, signer):
        raise damaged(config_map, "it is not signed by this cluster's authority")
    evidence = Evidence(volumes(cluster, seen), live_set is not None, seen.proven)
    document, leaving = next_document(cluster, held, seen.views, evidence)
    current = live_set["spec"].get("replicas", 1) if live_set else None
    actions: list[Action] = list(_services(cluster, seen))
    if document is None:
        return Plan(tuple(actions), None, leaving, current or cluster.replicas)
    version = config_map["metadata"]["resourceVersion"] if config_map else None
    body = signatures.signed(document.body(cluster), raw, signer)
    override = str(document.override) if document.override is not None else None
    actions += _applied(children.membership(cluster, body, version, override), config_map)
    actions += _publications(document, body, seen.views)
    size = stateful_set_size(cluster, document, seen.views, current)
    image, policy = _member_image(cluster, live_set, settings)
    actions += _applied(children.stateful_set(cluster, size, image, policy), live_set)
    actions += _drains(cluster, document, leaving, seen.views)
    actions += _shared_secret(cluster, seen)
    return Plan(tuple(actions), document, leaving, size)


def volumes(cluster: Cluster, seen: Observed) -> frozenset[str]:
    """Return the members that have a claim."""
    return frozenset(name.removeprefix(f"{names.DATA_VOLUME}-") for name in seen.claims)


def _is_believed(raw: Mapping[str, Any], live_set: Manifest | None, signer: tls.Authority) -> bool:
    """Tell whether the membership that was found is this operator's word.

    Whoever may edit ConfigMaps could have it signed otherwise. Earlier versions signed nothing: without a signature it
    is believed until members run that ask for one.
    """
    if signatures.is_signed(raw, signer):
        return True
    return signatures.SIGNATURE not in raw and live_set is not None and not _enrols(running_member(live_set))


def _publications(document: Document, body: Mapping[str, Any], views: Mapping[str, MemberView]) -> Iterable[Publish]:
    for name, view in sorted(views.items()):
        override = document.overrules(view.known)
        if override or view.known < document.epoch:
            yield Publish(name, body, override)


def _shared_secret(cluster: Cluster, seen: Observed) -> Iterable[Action]:
    """Empty the Secret of the certificate that members of earlier versions shared, once no pod mounts it.

    It goes with the resource. Deleting it would take a right over all Secrets that nothing else needs.
    """
    name = names.shared_tls_secret(cluster.name)
    live = seen.child("Secret", name)
    if live is None or not live.get("data"):
        return
    specs = [pod.get("spec") or {} for pod in seen.pods.values()]
    live_set = seen.child("StatefulSet", cluster.name)
    if live_set is not None:
        specs.append(live_set["spec"]["template"]["spec"])
    mounted = (volume.get("secret") or {} for spec in specs for volume in spec.get("volumes") or ())
    if all(volume.get("secretName") != name for volume in mounted):
        yield from _applied(children.secret(cluster, name, {}), live)


def _services(cluster: Cluster, seen: Observed) -> Iterable[Action]:
    yield from _applied(children.peers_service(cluster), seen.child("Service", names.peers_service(cluster.name)))
    optional = {"Service": children.client_service(cluster), "PodDisruptionBudget": children.disruption_budget(cluster)}
    for kind, manifest in optional.items():
        live = seen.child(kind, cluster.name)
        if manifest is not None:
            yield from _applied(manifest, live)
        elif live is not None:
            yield Remove(kind, cluster.name, live["metadata"]["uid"])


def _applied(manifest: Manifest, live: Manifest | None) -> tuple[Action, ...]:
    wanted = difference.marked(manifest)
    return (Apply(wanted),) if difference.differs(wanted, live) else ()


def _drains(
    cluster: Cluster, document: Document, leaving: ScaleDown | None, views: Mapping[str, MemberView]
) -> Iterable[Action]:
    if leaving is not None and not leaving.draining and leaving.hindrance is None:
        yield StartDrain(leaving.member)
    for name, view in sorted(views.items()):
        if view.draining and name in cluster.wanted and name in document.members:
            yield CancelDrain(name)


def _member_image(cluster: Cluster, live_set: Manifest | None, settings: Settings) -> tuple[str, str | None]:
    """Return the image and pull policy: as asked for, else those the cluster runs with, else the operator's default.

    So a new operator, whose default is newer, rolls no cluster. But an image that was started with the certificate of
    all members does not know how to ask for its own, and is followed by the default once.
    """
    policy = cluster.image_pull_policy or settings.member_image_pull_policy
    if cluster.image is not None:
        return cluster.image, policy
    running = running_member(live_set)
    if running is None or not _enrols(running):
        return settings.member_image, policy
    return running["image"], cluster.image_pull_policy or running.get("imagePullPolicy")


def running_member(live_set: Manifest | None) -> Manifest | None:
    """Return the member's container of a StatefulSet."""
    pod = (live_set or {}).get("spec", {}).get("template", {}).get("spec", {})
    found = [*pod.get("initContainers", ()), *pod.get("containers", ())]
    return next((container for container in found if container["name"] == names.CONTAINER), None)


def _enrols(container: Manifest | None) -> bool:
    """Tell whether a member's container asks for a certificate of its own."""
    return container is not None and "--enrol-token" in (container.get("args") or ())
