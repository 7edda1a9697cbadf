"""One pass over one cluster: read what is wanted and seen, ask the members, plan, act, say how it stands.

Level-based: a pass depends on what is there and on nothing that an earlier pass remembered, so it may be cut off
anywhere and done again. Actions are carried out in the plan's order; the API's refusal ends the pass, a member's does
not, because members come and go. What the resource did not create is neither changed nor deleted: `children_api`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from wavekv_operator import enrolment, names, signatures, tls
from wavekv_operator.children_api import Api as ChildrenOfApi
from wavekv_operator.children_api import ChildrenApi
from wavekv_operator.enrolment import Applicant
from wavekv_operator.errors import ApiError, ApiNotFound, MemberError, OperatorError, Refused
from wavekv_operator.membership import Document, MemberView, parse_document, read_document
from wavekv_operator.ownership import own_children
from wavekv_operator.plan import (
    Action,
    Apply,
    CancelDrain,
    Certificate,
    Observed,
    Publish,
    Remove,
    StartDrain,
    make_plan,
)
from wavekv_operator.registration import Applicants, Given, Registration, TokenReviewer
from wavekv_operator.resources import children
from wavekv_operator.resources.template_checks import check_template
from wavekv_operator.settings import Settings
from wavekv_operator.sidecar_client import Address, Sightings
from wavekv_operator.spec import Cluster, Manifest, read_cluster
from wavekv_operator.status import (
    Status,
    cluster_status,
    failed_status,
    happenings,
    refused_status,
)
from wavekv_operator.view import View

log = logging.getLogger(__name__)

_PROOFS_MAX = 16
"""Members asked in one pass for the document behind an epoch that the operator does not know."""


class Api(ChildrenOfApi, TokenReviewer, Protocol):
    """What a pass needs of the Kubernetes API; `kube.Kube` is the real one."""

    async def apply_status(self, cluster: Manifest, status: Mapping[str, Any]) -> Manifest:
        """Set a cluster's status and return the cluster."""
        ...

    async def post_event(self, cluster: Manifest, reason: str, message: str, *, warning: bool) -> None:
        """Post an event."""
        ...


class Members(Applicants, Protocol):
    """What a pass needs of the members; `sidecar_client.MemberClient` is the real one."""

    async def views(self, cluster_id: str, identity: tls.Data, addresses: list[Address]) -> Sightings:
        """Ask members for their status."""
        ...

    async def membership(self, cluster_id: str, identity: tls.Data, address: Address) -> Mapping[str, Any] | None:
        """Ask a member for the document it holds."""
        ...

    async def publish(
        self, cluster_id: str, identity: tls.Data, address: Address, document: Mapping[str, Any], *, override: bool
    ) -> None:
        """Give a member the membership."""
        ...

    async def start_drain(self, cluster_id: str, identity: tls.Data, address: Address) -> None:
        """Have a member stop accepting writes."""
        ...

    async def cancel_drain(self, cluster_id: str, identity: tls.Data, address: Address) -> None:
        """Have a member accept writes again."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pass ended: when the cluster is looked at again, and whether anything failed."""

    again_seconds: float
    error: OperatorError | None = None


@dataclass(frozen=True, slots=True)
class _Identity:
    """What the operator shows to members of a cluster, and signs with."""

    shown: tls.Data
    signer: tls.Authority


class Reconciler:
    """Does passes; one at a time for one cluster, several clusters side by side."""

    def __init__(
        self, api: Api, members: Members, view: View, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._children_api = ChildrenApi(api, view)
        self._members = members
        self._view = view
        self._settings = settings
        self._clock = clock
        self._registration = Registration(
            api, members, clock, life=settings.certificate_life, asked_max=settings.enrolments_max
        )

    async def reconcile(self, key: tuple[str, str]) -> Outcome:
        """Do one pass over the cluster `key`. Never raises OperatorError: it ends in the status and the outcome."""
        manifest = self._view.get(names.KIND, key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return Outcome(self._settings.resync_seconds)
        try:
            return await self._pass(manifest)
        except Refused as error:
            await self._say(manifest, refused_status(manifest, error, self._clock()))
            return Outcome(self._settings.resync_seconds)
        except OperatorError as error:
            log.warning("%s/%s: %s [%s]", *key, error.detail, error.code)
            await self._say(manifest, failed_status(manifest, error, self._clock()))
            return Outcome(self._settings.busy_seconds, error)

    async def _pass(self, manifest: Manifest) -> Outcome:
        cluster = read_cluster(manifest)
        if cluster.template is not None:
            check_template(cluster.template, allow_unsafe=self._settings.allow_unsafe_templates)
        identity = await self._identity(cluster)
        seen, given = await self._observe(cluster, identity)
        plan = make_plan(cluster, seen, self._settings, identity.signer)
        changed, failures = (0, []) if cluster.paused else await self._act(cluster, plan.actions, identity)
        failures += given.errors
        seen = replace(seen, children=self._children(cluster))
        status = cluster_status(
            cluster, seen, plan, now=self._clock(), patience_seconds=self._settings.drain_patience_seconds
        )
        await self._say(manifest, status, plan.document)
        busy = bool(changed or failures or given.enrolled or plan.leaving) or not _is_settled(status)
        seconds = self._settings.busy_seconds if busy and not cluster.paused else self._settings.resync_seconds
        return Outcome(seconds, failures[0] if failures else None)

    # ---- seeing ----------------------------------------------------------------------------------------------------

    async def _observe(self, cluster: Cluster, identity: _Identity) -> tuple[Observed, Given]:
        """Return what is there and what members say, and who was enrolled by the way."""
        found = self._children(cluster)
        addresses = [address for (kind, pod) in found if kind == "Pod" and (address := self._address(cluster, pod))]
        sightings = await self._members.views(cluster.cluster_id, identity.shown, addresses)
        given = Given(frozenset(), {})
        if not cluster.paused:
            applicants = self._applicants(cluster, sightings, addresses, identity.signer)
            given = await self._registration.give(applicants, identity.signer, identity.shown)
        found = self._children(cluster)
        pods = {name: manifest for (kind, name), manifest in found.items() if kind == "Pod"}
        claims = frozenset(name for kind, name in found if kind == "PersistentVolumeClaim")
        proven = await self._proven(cluster, found, sightings.views, identity)
        certificates = {name: _certificate(name, sightings, given) for name in pods}
        return Observed(found, pods, claims, sightings.views, proven, certificates), given

    def _children(self, cluster: Cluster) -> dict[tuple[str, str], Manifest]:
        return own_children(cluster, self._view.children(cluster.key))

    def _address(self, cluster: Cluster, pod: str) -> Address | None:
        """Return how the member in `pod` is reached; None for one that has no address."""
        manifest = self._view.get("Pod", (cluster.namespace, pod))
        ip = ((manifest or {}).get("status") or {}).get("podIP")
        if not ip or names.ordinal(cluster.name, pod) is None:
            return None
        return Address(pod, ip, names.peer_host(pod, cluster.name, cluster.namespace))

    def _applicants(
        self, cluster: Cluster, sightings: Sightings, addresses: list[Address], signer: tls.Authority
    ) -> list[tuple[Applicant, Address]]:
        """Return who needs a certificate: first those that have none, then those whose one has to be followed."""
        missing: list[tuple[Applicant, Address]] = []
        renewed: list[tuple[Applicant, Address]] = []
        for address in addresses:
            pod = self._view.get("Pod", (cluster.namespace, address.member))
            if pod is None or pod["metadata"].get("deletionTimestamp"):
                continue
            who = enrolment.applicant(cluster.cluster_id, cluster.name, pod, self._settings.cluster_domain)
            view = sightings.views.get(address.member)
            if address.member in sightings.unverified:
                missing.append((who, address))
            elif view is not None and enrolment.needs_certificate(view.certificate, who, signer, self._clock()):
                renewed.append((who, address))
        return missing + renewed

    async def _proven(
        self,
        cluster: Cluster,
        found: Mapping[tuple[str, str], Manifest],
        views: Mapping[str, MemberView],
        identity: _Identity,
    ) -> Document | None:
        """Return the newest document that a member shows signed, where members know a newer epoch than the operator."""
        held, _ = read_document(found.get(("ConfigMap", names.membership(cluster.name))))
        base = held.epoch if held is not None else 0
        newer = sorted((view for view in views.values() if view.known > base), key=lambda view: -view.known)
        asked = [
            address
            for view in newer
            if not (held is not None and held.overrules(view.known))
            and (address := self._address(cluster, view.name)) is not None
        ]
        proofs = await asyncio.gather(*(self._proof(cluster, address, identity) for address in asked[:_PROOFS_MAX]))
        proven = [document for document in proofs if document is not None and document.epoch > base]
        return max(proven, key=lambda document: document.epoch, default=None)

    async def _proof(self, cluster: Cluster, address: Address, identity: _Identity) -> Document | None:
        """Return the document that a member holds, None if it shows none that this cluster's authority signed."""
        try:
            raw = await self._members.membership(cluster.cluster_id, identity.shown, address)
            if raw is None or raw.get("cluster_id") != cluster.cluster_id:
                return None
            return parse_document(raw) if signatures.is_signed(raw, identity.signer) else None
        except (MemberError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.info("%s/%s: %s proves no epoch: %s", *cluster.key, address.member, type(error).__name__)
            return None

    # ---- acting ----------------------------------------------------------------------------------------------------

    async def _identity(self, cluster: Cluster) -> _Identity:
        """Have the two Secrets and what members trust be good; return what the operator shows and signs with."""
        found = self._children(cluster)
        live = {
            kind_name: found.get(kind_name)
            for kind_name in (
                ("Secret", names.ca_secret(cluster.name)),
                ("Secret", names.operator_tls_secret(cluster.name)),
                ("ConfigMap", names.authorities(cluster.name)),
            )
        }
        ca, operator, trusted = (manifest or {} for manifest in live.values())
        bundle = ((trusted.get("data") or {}).get(names.CA_KEY) or "").encode()
        held = tls.Secrets(tls.decode(ca.get("data")), tls.decode(operator.get("data")), bundle)
        lives = tls.Lives(self._settings.certificate_life, self._settings.authority_life)
        good = tls.secrets(cluster.cluster_id, held, self._clock(), lives)
        if not cluster.paused:
            for name, data in ((names.ca_secret, good.ca), (names.operator_tls_secret, good.operator)):
                secret = children.secret(cluster, name(cluster.name), tls.encode(data))
                await self._children_api.applied(cluster, secret)
            await self._children_api.applied(cluster, children.authorities(cluster, good.bundle))
        return _Identity(good.operator, tls.authority(good))

    async def _act(
        self, cluster: Cluster, actions: tuple[Action, ...], identity: _Identity
    ) -> tuple[int, list[OperatorError]]:
        """Carry out the plan; return how many actions changed something, and what members refused. Raises ApiError."""
        failures: list[OperatorError] = []
        changed = 0
        for action in actions:
            try:
                changed += await self._do(cluster, action, identity.shown)
            except MemberError as error:
                log.info("%s/%s: %s", *cluster.key, error.detail)
                failures.append(error)
        return changed, failures

    async def _do(self, cluster: Cluster, action: Action, identity: tls.Data) -> bool:
        """Carry out one action; tell whether it changed anything.

        The API server may write a field in its own way that looks like a difference for ever: applying it again then
        changes nothing, and must not keep the cluster busy.
        """
        match action:
            case Apply(manifest):
                return await self._children_api.apply(cluster, manifest)
            case Remove(kind, name, uid):
                log.info("%s/%s: removing %s %s", *cluster.key, kind, name)
                await self._api.delete(kind, cluster.namespace, name, uid)
            case Publish(member, document, override):
                if (address := self._address(cluster, member)) is not None:
                    if override:
                        log.warning("%s/%s: %s takes epoch %s by override", *cluster.key, member, document["epoch"])
                    await self._members.publish(cluster.cluster_id, identity, address, document, override=override)
            case StartDrain(member):
                if (address := self._address(cluster, member)) is not None:
                    log.info("%s/%s: draining %s", *cluster.key, member)
                    await self._members.start_drain(cluster.cluster_id, identity, address)
            case CancelDrain(member):
                if (address := self._address(cluster, member)) is not None:
                    log.info("%s/%s: %s stays, its drain is cancelled", *cluster.key, member)
                    await self._members.cancel_drain(cluster.cluster_id, identity, address)
        return True

    # ---- saying ----------------------------------------------------------------------------------------------------

    async def _say(self, manifest: Manifest, status: Status, document: Document | None = None) -> None:
        """Write the status if it changed, then post what the change means."""
        old = manifest.get("status") or {}
        if status == old:
            return
        try:
            self._view.put(names.KIND, await self._api.apply_status(manifest, status))
            for happening in happenings(old, status, document):
                await self._api.post_event(manifest, happening.reason, happening.message, warning=happening.warning)
        except ApiNotFound:
            log.info("%s/%s is gone", manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        except ApiError as error:
            log.warning("the status could not be written: %s", error.detail)


def _certificate(member: str, sightings: Sightings, given: Given) -> Certificate:
    view = sightings.views.get(member)
    expires = enrolment.expires(view.certificate) if view is not None else None
    return Certificate(expires, member in sightings.unverified, given.refusals.get(member))


def _is_settled(status: Status) -> bool:
    wanted = {"Ready": "True", "Progressing": "False", "Converged": "True", "TLSReady": "True"}
    found = {item["type"]: item["status"] for item in status["conditions"]}
    return all(found.get(kind) == value for kind, value in wanted.items())
