"""What a WaveKVCluster says of itself: status and conditions as functions of what was seen, and the events of a change.

Messages hold no times and no counters that move by themselves, so a quiet cluster's status is not written again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from wavekv_operator import names
from wavekv_operator.errors import OperatorError, Refused
from wavekv_operator.membership import Document, not_ours
from wavekv_operator.plan import Observed, Plan
from wavekv_operator.spec import Cluster

Status = Mapping[str, Any]

_NAMED_MAX = 10
"""Members named in a message; the rest is a number."""


class Judgement(NamedTuple):
    """A condition without its times."""

    type: str
    status: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Happening:
    """An event to post. `reason` is stable."""

    reason: str
    message: str
    warning: bool = False


def refused_status(cluster_manifest: Mapping[str, Any], error: Refused, now: datetime) -> Status:
    """Return the status of a resource that cannot be built: what runs goes on and is reported as before."""
    old = cluster_manifest.get("status") or {}
    judgement = Judgement("Accepted", False, error.reason, error.detail)
    return {
        **old,
        "observedGeneration": cluster_manifest["metadata"].get("generation", 0),
        "conditions": _conditions([judgement], old.get("conditions") or (), now, keep=True),
    }


def failed_status(cluster_manifest: Mapping[str, Any], error: OperatorError, now: datetime) -> Status:
    """Return the status after a pass that could not be finished; it is tried again."""
    old = cluster_manifest.get("status") or {}
    judgement = Judgement("Progressing", True, "ReconcileFailed", error.detail)
    return {**old, "conditions": _conditions([judgement], old.get("conditions") or (), now, keep=True)}


def cluster_status(cluster: Cluster, seen: Observed, plan: Plan, *, now: datetime, patience_seconds: float) -> Status:
    """Return the status after a pass."""
    old = cluster.manifest.get("status") or {}
    live_set = seen.child("StatefulSet", cluster.name) or {}
    set_status = live_set.get("status") or {}
    document = plan.document
    conditions = old.get("conditions") or ()
    judgements = [
        Judgement("Accepted", True, "Accepted", "the resource can be built"),
        _ready(cluster, seen, plan),
        _progressing(cluster, seen, plan, set_status),
        _converged(seen, plan),
        *_scaling(plan, conditions, now, patience_seconds),
        _tls_ready(cluster, seen),
        _epoch_agreed(seen, plan),
    ]
    if cluster.paused:
        judgements.append(Judgement("Paused", True, "PausedByAnnotation", f"{names.PAUSED_ANNOTATION} is set"))
    return {
        "observedGeneration": cluster.generation,
        "replicas": set_status.get("replicas", 0),
        "readyReplicas": set_status.get("readyReplicas", 0),
        "selector": ",".join(f"{key}={value}" for key, value in names.selector(cluster.name).items()),
        "clusterId": cluster.cluster_id,
        **({"epoch": document.epoch} if document else {}),
        **_epoch_override(old, document, now),
        "members": [_member(cluster, seen, name) for name in _member_names(cluster, seen, plan)],
        "conditions": _conditions(judgements, conditions, now),
    }


# ---- members ---------------------------------------------------------------------------------------------------------


def _member_names(cluster: Cluster, seen: Observed, plan: Plan) -> list[str]:
    listed = {*(plan.document.members if plan.document else ()), *seen.pods}
    return sorted(listed, key=lambda name: (names.ordinal(cluster.name, name) or 0, name))


def _member(cluster: Cluster, seen: Observed, name: str) -> Mapping[str, Any]:
    old: Mapping[str, Any] = next(
        (item for item in (cluster.manifest.get("status") or {}).get("members") or () if item["name"] == name), {}
    )
    view = seen.views.get(name)
    if view is None:
        phase = "unreachable" if name in seen.pods else "absent"
        kept = {key: old[key] for key in ("nodeId", "uuid", "certificateExpires") if key in old}
        return {"name": name, **kept, "phase": phase, "claim": names.claim(name), "ready": False, "converged": False}
    return {
        "name": name,
        "nodeId": view.node_id,
        "uuid": view.uuid,
        "phase": view.phase,
        "claim": names.claim(name),
        **_certificate_expires(seen, name),
        "ready": _pod_ready(seen.pods.get(name)),
        "converged": view.converged,
    }


def _certificate_expires(seen: Observed, name: str) -> Mapping[str, Any]:
    certificate = seen.certificates.get(name)
    if certificate is None or certificate.expires is None:
        return {}
    return {"certificateExpires": _stamp(certificate.expires)}


def _pod_ready(pod: Mapping[str, Any] | None) -> bool:
    conditions = ((pod or {}).get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


# ---- conditions ------------------------------------------------------------------------------------------------------


def _ready(cluster: Cluster, seen: Observed, plan: Plan) -> Judgement:
    document = plan.document
    lacking = [
        name
        for name in cluster.wanted
        if not (
            document is not None
            and name in document.members
            and name in seen.views
            and seen.views[name].ready
            and _pod_ready(seen.pods.get(name))
        )
    ]
    if lacking:
        return Judgement("Ready", False, "MembersNotReady", f"not ready: {_some(lacking)}")
    return Judgement("Ready", True, "AllMembersReady", f"all {cluster.replicas} members serve")


def _progressing(cluster: Cluster, seen: Observed, plan: Plan, set_status: Mapping[str, Any]) -> Judgement:
    live_set = seen.child("StatefulSet", cluster.name)
    members = len(plan.document.members) if plan.document else 0
    counted = f"{members} members, {cluster.replicas} are wanted"
    generation = live_set["metadata"].get("generation") if live_set else None
    unfinished = (
        (live_set is None or not members, "Creating", "the members are being made"),
        (generation != set_status.get("observedGeneration"), "Updating", "the StatefulSet has yet to follow a change"),
        (plan.document is not None and plan.document.bootstrap, "Creating", "the first members have yet to report"),
        (members > cluster.replicas, "ScalingDown", counted),
        (members < cluster.replicas, "ScalingUp", counted),
        (set_status.get("replicas", 0) != cluster.replicas, "Scaling", "pods are coming or going"),
        (set_status.get("updatedReplicas", 0) < cluster.replicas, "RollingOut", "pods are being replaced one by one"),
    )
    for is_so, reason, message in unfinished:
        if is_so:
            return Judgement("Progressing", True, reason, message)
    return Judgement("Progressing", False, "Settled", "nothing is left to do")


def _converged(seen: Observed, plan: Plan) -> Judgement:
    members = plan.document.members if plan.document else ()
    silent = [name for name in members if name not in seen.views]
    if silent or not members:
        return Judgement("Converged", None, "MembersUnreachable", f"no answer from {_some(silent) or 'any member'}")
    behind = [name for name in members if not seen.views[name].converged]
    if behind:
        return Judgement("Converged", False, "Exchanging", f"not yet equal with all others: {_some(behind)}")
    return Judgement("Converged", True, "AllEqual", "every member covers what any of them had written")


def _scaling(
    plan: Plan, old: Sequence[Mapping[str, Any]], now: datetime, patience_seconds: float
) -> Iterable[Judgement]:
    leaving = plan.leaving
    if leaving is None:
        yield Judgement("Draining", False, "NotDraining", "no member is leaving")
        yield Judgement("ScaleDownPrevented", False, "NotPrevented", "no member is leaving")
        return
    draining = Judgement("Draining", True, "MemberLeaving", f"{leaving.member} hands over what it holds")
    since = next((item for item in old if item["type"] == "Draining" and item["message"] == draining.message), None)
    yield draining
    waited = (now - _time(since["lastTransitionTime"])).total_seconds() if since else 0.0
    if leaving.hindrance is None or waited < patience_seconds:
        yield Judgement("ScaleDownPrevented", False, "NotPrevented", "the drain goes on")
        return
    way_out = (
        f"; to remove it all the same and lose what only it holds: annotate {names.FORCE_ANNOTATION}={leaving.member}"
    )
    yield Judgement("ScaleDownPrevented", True, leaving.hindrance, leaving.detail + way_out)


def _tls_ready(cluster: Cluster, seen: Observed) -> Judgement:
    known = {name: seen.certificates.get(name) for name in {*cluster.wanted, *seen.certificates}}
    ordered = sorted(known, key=lambda name: (names.ordinal(cluster.name, name) or 0, name))
    refused = [f"{name}: {item.refusal}" for name in ordered if (item := known[name]) is not None and item.refusal]
    if refused:
        return Judgement("TLSReady", False, "EnrolmentRefused", _some(refused, "; "))
    lacking = [name for name in ordered if (item := known[name]) is not None and item.missing]
    if lacking:
        return Judgement("TLSReady", False, "Enrolling", f"no certificate of their own yet: {_some(lacking)}")
    silent = [name for name in ordered if (item := known[name]) is None or item.expires is None]
    if silent:
        return Judgement("TLSReady", None, "MembersUnreachable", f"no answer from {_some(silent)}")
    return Judgement("TLSReady", True, "AllMembersCertified", "every member has a certificate of its own")


def _epoch_agreed(seen: Observed, plan: Plan) -> Judgement:
    against = not_ours(plan.document, seen.views)
    if against is not None:
        return Judgement("EpochAgreed", False, "EpochNotOurs", against)
    return Judgement("EpochAgreed", True, "EpochOurs", "no member knows a newer epoch than this operator has issued")


def _epoch_override(old: Status, document: Document | None, now: datetime) -> Mapping[str, Any]:
    """Return what is kept of the last override, with the time it was begun."""
    before = old.get("epochOverride")
    if document is None or document.override is None:
        return {} if before is None else {"epochOverride": before}
    override = document.override
    same = before is not None and before["epoch"] == override.epoch and before["from"] == override.overruled
    at = before["at"] if before is not None and same else _stamp(now)
    return {"epochOverride": {"epoch": override.epoch, "from": override.overruled, "at": at}}


def _some(members: Sequence[str], separator: str = ", ") -> str:
    shown = separator.join(members[:_NAMED_MAX])
    return shown if len(members) <= _NAMED_MAX else f"{shown} and {len(members) - _NAMED_MAX} more"


def _conditions(
    judgements: Sequence[Judgement], old: Sequence[Mapping[str, Any]], now: datetime, *, keep: bool = False
) -> list[Mapping[str, Any]]:
    """Return the conditions as the API wants them; the time is that of the last change of `status`."""
    before = {item["type"]: item for item in old}
    made: list[Mapping[str, Any]] = []
    for judgement in judgements:
        status = {True: "True", False: "False", None: "Unknown"}[judgement.status]
        was = before.pop(judgement.type, None)
        same = was is not None and was["status"] == status
        if judgement.type == "Draining":  # another member's drain begins anew: patience is for one member
            same = same and was is not None and was["message"] == judgement.message
        since = was["lastTransitionTime"] if was is not None and same else _stamp(now)
        made.append(
            {
                "type": judgement.type,
                "status": status,
                "reason": judgement.reason,
                "message": judgement.message,
                "lastTransitionTime": since,
            }
        )
    return made + list(before.values()) if keep else made


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


# ---- events ----------------------------------------------------------------------------------------------------------


def happenings(old: Status, new: Status, document: Document | None) -> list[Happening]:
    """Return the events of a change from one status to the next; `document` is the membership in force."""
    found = list(_condition_events(old.get("conditions") or (), new.get("conditions") or ()))
    was = {item["name"]: item for item in old.get("members") or ()}
    for item in new.get("members") or ():
        before, uuid = was.get(item["name"], {}).get("uuid"), item.get("uuid")
        if before and uuid and before != uuid:
            found.append(Happening("VolumeReplaced", f"{item['name']} came back with another volume and heals", True))
    override = new.get("epochOverride")
    if override is not None and override != old.get("epochOverride"):
        text = f"epoch {override['epoch']} was set over {override['from']} by {names.OVERRIDE_ANNOTATION}"
        found.append(Happening("EpochOverridden", text, True))
    if document is not None and document.epoch > old.get("epoch", document.epoch):
        found.append(Happening("MembershipChanged", f"epoch {document.epoch}: {_some(document.members)}"))
    return found


def _condition_events(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterable[Happening]:
    was = {item["type"]: (item["status"], item["reason"]) for item in old}
    for item in new:
        before = was.get(item["type"])
        if before == (item["status"], item["reason"]):
            continue
        match (item["type"], item["status"]):
            case ("Accepted", "False") | ("EpochAgreed", "False") | ("ScaleDownPrevented", "True"):
                yield Happening(item["reason"], item["message"], warning=True)
            case ("TLSReady", "False") if item["reason"] == "EnrolmentRefused":
                yield Happening(item["reason"], item["message"], warning=True)
            case ("Progressing", "True") if item["reason"] == "ReconcileFailed":
                yield Happening(item["reason"], item["message"], warning=True)
            case ("Ready", "True") | ("Draining", "True"):
                yield Happening(item["reason"], item["message"])
            case ("Ready", "False") if before is not None and before[0] == "True":
                yield Happening(item["reason"], item["message"], warning=True)
            case _:
                pass
