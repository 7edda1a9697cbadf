"""One pass over one cluster: read what is wanted and seen, ask the members, plan, act, say how it stands.

Level-based: a pass depends on what is there and on nothing that an earlier pass remembered, so it may be cut off
anywhere and done again. Actions are carried out in the plan's order; the API's refusal ends the pass, a member's does
not, because members come and go.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from wavekv_operator import difference, names, tls
from wavekv_operator.errors import ApiError, ApiNotFound, InvalidSpec, MemberError, OperatorError
from wavekv_operator.membership import Document, MemberView
from wavekv_operator.plan import (
    Action,
    Apply,
    CancelDrain,
    Observed,
    Plan,
    Publish,
    Remove,
    StartDrain,
    make_plan,
)
from wavekv_operator.resources import children
from wavekv_operator.resources.template_checks import check_template
from wavekv_operator.settings import Settings
from wavekv_operator.sidecar_client import Address
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


class Api(Protocol):
    """What a pass needs of the Kubernetes API; `kube.Kube` is the real one."""

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """Apply an object and return it; with `force` over fields that others set."""
        ...

    async def apply_status(self, cluster: Manifest, status: Mapping[str, Any]) -> Manifest:
        """Set a cluster's status and return the cluster."""
        ...

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object."""
        ...

    async def post_event(self, cluster: Manifest, reason: str, message: str, *, warning: bool) -> None:
        """Post an event."""
        ...


class Members(Protocol):
    """What a pass needs of the members; `sidecar_client.MemberClient` is the real one."""

    async def views(self, cluster_id: str, identity: tls.Data, addresses: list[Address]) -> dict[str, MemberView]:
        """Ask members for their status."""
        ...

    async def publish(self, cluster_id: str, identity: tls.Data, address: Address, document: Mapping[str, Any]) -> None:
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


class Reconciler:
    """Does passes; one at a time for one cluster, several clusters side by side."""

    def __init__(
        self, api: Api, members: Members, view: View, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._members = members
        self._view = view
        self._settings = settings
        self._clock = clock

    async def reconcile(self, key: tuple[str, str]) -> Outcome:
        """Do one pass over the cluster `key`. Never raises OperatorError: it ends in the status and the outcome."""
        manifest = self._view.get(names.KIND, key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return Outcome(self._settings.resync_seconds)
        try:
            return await self._pass(manifest)
        except InvalidSpec as error:
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
        identity = await self._certificates(cluster)
        seen = await self._observe(cluster, identity)
        plan = make_plan(cluster, seen, self._settings)
        changed, failures = (0, []) if cluster.paused else await self._act(cluster, plan, identity)
        seen = replace(seen, children=self._children(cluster))
        status = cluster_status(
            cluster, seen, plan, now=self._clock(), patience_seconds=self._settings.drain_patience_seconds
        )
        await self._say(manifest, status, plan.document)
        busy = bool(changed or failures or plan.leaving) or not _is_settled(status)
        seconds = self._settings.busy_seconds if busy and not cluster.paused else self._settings.resync_seconds
        return Outcome(seconds, failures[0] if failures else None)

    # ---- seeing ----------------------------------------------------------------------------------------------------

    async def _observe(self, cluster: Cluster, identity: tls.Data) -> Observed:
        found = self._children(cluster)
        pods = {name: manifest for (kind, name), manifest in found.items() if kind == "Pod"}
        claims = frozenset(name for kind, name in found if kind == "PersistentVolumeClaim")
        addresses = [address for pod in pods if (address := self._address(cluster, pod)) is not None]
        views = await self._members.views(cluster.cluster_id, identity, addresses)
        return Observed(self._children(cluster), pods, claims, views)

    def _children(self, cluster: Cluster) -> dict[tuple[str, str], Manifest]:
        return {(kind, manifest["metadata"]["name"]): manifest for kind, manifest in self._view.children(cluster.key)}

    def _address(self, cluster: Cluster, pod: str) -> Address | None:
        """Return how the member in `pod` is reached; None for a pod that is none of the set's, or has no address."""
        manifest = self._view.get("Pod", (cluster.namespace, pod))
        ip = ((manifest or {}).get("status") or {}).get("podIP")
        if not ip or names.ordinal(cluster.name, pod) is None:
            return None
        return Address(pod, ip, names.peer_host(pod, cluster.name, cluster.namespace))

    # ---- acting ----------------------------------------------------------------------------------------------------

    async def _certificates(self, cluster: Cluster) -> tls.Data:
        """Have the three Secrets hold good certificates; return the operator's identity."""
        secret_names = {
            "ca": names.ca_secret(cluster.name),
            "member": names.member_tls_secret(cluster.name),
            "operator": names.operator_tls_secret(cluster.name),
        }
        live = {role: self._view.get("Secret", (cluster.namespace, name)) for role, name in secret_names.items()}
        held = tls.Certificates(**{role: tls.decode((found or {}).get("data")) for role, found in live.items()})
        host = names.peer_host("*", cluster.name, cluster.namespace)
        hosts = (host, f"{host}.{self._settings.cluster_domain}")
        lives = tls.Lives(self._settings.certificate_life, self._settings.authority_life)
        good = tls.certificates(cluster.cluster_id, hosts, held, self._clock(), lives)
        if not cluster.paused:
            for role, name in secret_names.items():
                data: tls.Data = getattr(good, role)
                await self._applied(children.secret(cluster, name, tls.encode(data)), live[role])
        return good.operator

    async def _applied(self, manifest: Manifest, live: Manifest | None) -> None:
        wanted = difference.marked(manifest)
        if difference.differs(wanted, live):
            await self._apply(wanted)

    async def _act(self, cluster: Cluster, plan: Plan, identity: tls.Data) -> tuple[int, list[OperatorError]]:
        """Carry out the plan; return how many actions changed something, and what members refused. Raises ApiError."""
        failures: list[OperatorError] = []
        changed = 0
        for action in plan.actions:
            try:
                changed += await self._do(cluster, action, identity)
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
                return await self._apply(manifest)
            case Remove(kind, name):
                log.info("%s/%s: removing %s %s", *cluster.key, kind, name)
                await self._api.delete(kind, cluster.namespace, name)
            case Publish(member, document):
                if (address := self._address(cluster, member)) is not None:
                    await self._members.publish(cluster.cluster_id, identity, address, document)
            case StartDrain(member):
                if (address := self._address(cluster, member)) is not None:
                    log.info("%s/%s: draining %s", *cluster.key, member)
                    await self._members.start_drain(cluster.cluster_id, identity, address)
            case CancelDrain(member):
                if (address := self._address(cluster, member)) is not None:
                    log.info("%s/%s: %s stays, its drain is cancelled", *cluster.key, member)
                    await self._members.cancel_drain(cluster.cluster_id, identity, address)
        return True

    async def _apply(self, manifest: Manifest) -> bool:
        kind, metadata = manifest["kind"], manifest["metadata"]
        live = self._view.get(kind, (metadata["namespace"], metadata["name"]))
        # What is not known to be the operator's is never taken over: somebody's Service may have the cluster's name.
        applied = await self._api.apply(manifest, force=live is not None)
        self._view.put(kind, applied)
        changed = live is None or live["metadata"]["resourceVersion"] != applied["metadata"]["resourceVersion"]
        if changed:
            log.info("%s/%s: applied %s", metadata["namespace"], metadata["name"], kind)
        return changed

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


def _is_settled(status: Status) -> bool:
    wanted = {"Ready": "True", "Progressing": "False", "Converged": "True"}
    found = {item["type"]: item["status"] for item in status["conditions"]}
    return all(found.get(kind) == value for kind, value in wanted.items())
