"""A Kubernetes that has only what the operator leans on: an API with versions and conflicts, a StatefulSet controller,
and members that speak like real ones. Time stands still until a test moves it; nothing waits.

`World.settle` does passes until one changes nothing, the way the real loop would.
"""

import copy
import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from wavekv_operator import names, tls
from wavekv_operator.errors import ApiConflict, ApiError, ApiNotFound, MemberRefused, MemberUnreachable
from wavekv_operator.membership import Drain, MemberView
from wavekv_operator.reconcile import Outcome, Reconciler
from wavekv_operator.settings import Settings
from wavekv_operator.sidecar_client import Address
from wavekv_operator.spec import Manifest
from wavekv_operator.view import View

NAMESPACE = "shop"
CLUSTER = "demo"
KEY = (NAMESPACE, CLUSTER)
PASSES_MAX = 60


@dataclass
class Volume:
    """What a member's directory remembers."""

    uuid: str
    node_id: int
    epoch: int | None = None
    members: tuple[str, ...] = ()
    admitted: int | None = None
    healed: int | None = None
    draining: bool = False


@dataclass
class FakeMember:
    """A member's process on its volume."""

    name: str
    volume: Volume
    inc: int
    reachable: bool = True
    healing: bool = False
    covered_by: set[str] = field(default_factory=set)
    """Members that hold all that this one holds."""

    @property
    def included(self) -> bool:
        return self.name in self.volume.members

    def take(self, document: Mapping[str, Any]) -> None:
        """Take a document; an older one is refused, as the member does."""
        volume = self.volume
        if volume.epoch is not None and document["epoch"] < volume.epoch:
            raise MemberRefused(f"{self.name} knows epoch {volume.epoch}", "stale_epoch")
        volume.epoch, volume.members = document["epoch"], tuple(document["members"])
        volume.admitted = document["admitted"].get(self.name, volume.admitted)
        if self.included and volume.admitted is not None and (volume.healed or 0) < volume.admitted:
            volume.healed, volume.draining = volume.admitted, False

    def view(self, incs: Mapping[str, int]) -> MemberView:
        volume = self.volume
        phase = "draining" if volume.draining else "serving" if self.included else "removed"
        others = [name for name in volume.members if name != self.name]
        covered = {name: incs[name] for name in others if name in self.covered_by}
        drain = Drain(
            draining=True,
            complete=not self.healing and len(covered) == len(others),
            healing=self.healing,
            covered_by=covered,
            waiting_for=tuple(name for name in others if name not in covered),
        )
        return MemberView(
            name=self.name,
            node_id=volume.node_id,
            uuid=volume.uuid,
            phase=phase,
            ready=phase == "serving",
            healing=self.healing,
            draining=volume.draining,
            converged=self.included,
            inc=self.inc,
            epoch=volume.epoch,
            members=volume.members,
            admitted_epoch=volume.admitted,
            drain=drain if volume.draining else None,
        )


class World:
    """The API, the controllers and the members."""

    def __init__(self, settings: Settings | None = None, **spec: Any) -> None:
        self.view = View()
        self.settings = settings or Settings(member_image="wavekv-sidecar:1")
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.members: dict[str, FakeMember] = {}
        self.volumes: dict[str, Volume] = {}
        self.events: list[tuple[str, str]] = []
        self.writes: list[str] = []
        """`KIND NAME` of every object written, statuses excepted."""
        self.calls: list[str] = []
        """What members were told, in order, with the size the set had then."""
        self.starts_members = True
        self._versions = itertools.count(1)
        self.reconciler = Reconciler(self, self, self.view, self.settings, lambda: self.now)
        self.create(**spec)

    # ---- the custom resource -----------------------------------------------------------------------------------

    def create(self, **spec: Any) -> None:
        """Make the WaveKVCluster, as after `kubectl apply`."""
        self.edit(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": CLUSTER, "namespace": NAMESPACE, "uid": str(uuid.uuid4()), "generation": 1},
                "spec": {"replicas": 3, **spec},
            }
        )

    @property
    def resource(self) -> Manifest:
        manifest = self.view.get(names.KIND, KEY)
        assert manifest is not None
        return copy.deepcopy(manifest)

    def edit(self, manifest: Manifest) -> None:
        """Put a version of an object into the API."""
        manifest["metadata"]["resourceVersion"] = str(next(self._versions))
        self.view.put(manifest["kind"], manifest)

    def change_spec(self, **fields: Any) -> None:
        """Edit the spec, as `kubectl edit` would."""
        manifest = self.resource
        manifest["spec"].update(fields)
        manifest["metadata"]["generation"] += 1
        self.edit(manifest)

    def annotate(self, **annotations: str) -> None:
        """Set annotations; `__` in a name stands for what Python names may not hold."""
        manifest = self.resource
        manifest["metadata"]["annotations"] = {key.replace("__", "/"): value for key, value in annotations.items()}
        self.edit(manifest)

    def delete_cluster(self) -> None:
        """Delete the resource; its children go with it, volumes stay."""
        for kind, manifest in [(names.KIND, self.resource), *self.view.children(KEY)]:
            if kind != "PersistentVolumeClaim":
                self.view.drop(kind, manifest)
        self.members.clear()

    # ---- looking -----------------------------------------------------------------------------------------------

    def child(self, kind: str, name: str) -> Manifest:
        manifest = self.view.get(kind, (NAMESPACE, name))
        assert manifest is not None, f"{kind} {name} is not there"
        return manifest

    @property
    def size(self) -> int:
        """Replicas of the StatefulSet."""
        return int(self.child("StatefulSet", CLUSTER)["spec"]["replicas"])

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = next(item for item in self.resource["status"]["conditions"] if item["type"] == kind)
        return found["status"], found["reason"]

    # ---- passes ------------------------------------------------------------------------------------------------

    async def one_pass(self) -> Outcome:
        outcome = await self.reconciler.reconcile(KEY)
        self.run_controllers()
        return outcome

    async def settle(self) -> Outcome:
        """Do passes until one changes nothing; fails when that does not come."""
        self.run_controllers()
        for _ in range(PASSES_MAX):
            before = len(self.writes), len(self.calls), self.resource.get("status")
            outcome = await self.one_pass()
            if (len(self.writes), len(self.calls), self.resource.get("status")) == before:
                return outcome
        raise AssertionError(f"not settled after {PASSES_MAX} passes; last writes {self.writes[-5:]}")

    def pass_time(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    # ---- the StatefulSet controller, the kubelet and the members -------------------------------------------------

    def run_controllers(self) -> None:
        """Have pods, claims and members be what the StatefulSet asks for."""
        live = self.view.get("StatefulSet", KEY)
        if live is None:
            return
        wanted = [names.member(CLUSTER, ordinal) for ordinal in range(live["spec"]["replicas"])]
        for manifest in list(self.view.all("Pod")):
            if manifest["metadata"]["name"] not in wanted:
                self.view.drop("Pod", manifest)
                self.members.pop(manifest["metadata"]["name"], None)
        for name in wanted:
            self._make("PersistentVolumeClaim", names.claim(name), {})
            if self.starts_members and name not in self.members:
                self._start(name)
            self._pod(name)
        count = len(wanted)
        ready = sum(name in self.members and self._view_of(self.members[name]).ready for name in wanted)
        status = {"replicas": count, "readyReplicas": ready, "updatedReplicas": count}
        status["observedGeneration"] = live["metadata"]["generation"]
        if live.get("status") != status:
            self.edit({**live, "metadata": dict(live["metadata"]), "status": status})

    def _start(self, name: str) -> None:
        volume = self.volumes.setdefault(name, Volume(str(uuid.uuid4()), len(self.volumes) + 1))
        member = FakeMember(name, volume, inc=int(self.now.timestamp() * 1000) + len(self.calls))
        document = self._boot_document()
        if volume.epoch is None or document["epoch"] > volume.epoch:
            member.take(document)
        self.members[name] = member

    def restart(self, name: str) -> None:
        """Have a member's process start anew on its volume."""
        del self.members[name]
        self.calls.append(f"restart {name}")
        self._start(name)

    def _boot_document(self) -> dict[str, Any]:

        text = self.child("ConfigMap", names.membership(CLUSTER))["data"][names.MEMBERSHIP_KEY]
        document: dict[str, Any] = json.loads(text)
        return document

    def _pod(self, name: str) -> None:
        member = self.members.get(name)
        ready = member is not None and member.reachable and self._view_of(member).ready
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {"podIP": f"10.0.0.{(names.ordinal(CLUSTER, name) or 0) + 1}", "conditions": conditions}
        self._make("Pod", name, {"status": status})

    def _make(self, kind: str, name: str, body: Manifest) -> None:
        live = self.view.get(kind, (NAMESPACE, name))
        if live is None:
            metadata = {"name": name, "namespace": NAMESPACE, "uid": str(uuid.uuid4()), "labels": names.labels(CLUSTER)}
            self.edit({"kind": kind, "metadata": metadata, **body})
        elif any(live.get(key) != value for key, value in body.items()):
            self.edit({**live, "metadata": dict(live["metadata"]), **body})

    def _view_of(self, member: FakeMember) -> MemberView:
        incs = {name: other.inc for name, other in self.members.items()}
        return member.view({**dict.fromkeys(member.volume.members, 0), **incs})

    # ---- reconcile.Api -----------------------------------------------------------------------------------------

    async def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        kind, metadata = manifest["kind"], manifest["metadata"]
        live = self.view.get(kind, (metadata["namespace"], metadata["name"]))
        version = metadata.get("resourceVersion")
        if version is not None and (live is None or live["metadata"]["resourceVersion"] != version):
            raise ApiConflict(f"{kind} {metadata['name']} changed meanwhile", 409)
        self.writes.append(f"{kind} {metadata['name']}")
        kept = {} if live is None else {key: value for key, value in live.items() if key == "status"}
        old = {"uid": str(uuid.uuid4()), "generation": 0} if live is None else live["metadata"]
        merged = {**copy.deepcopy(manifest), **kept}
        merged["metadata"] |= {"uid": old["uid"], "generation": old.get("generation", 0) + 1}
        self.edit(merged)
        return merged

    async def apply_status(self, cluster: Manifest, status: Mapping[str, Any]) -> Manifest:
        if self.view.get(names.KIND, KEY) is None:
            raise ApiNotFound("gone", 404)
        manifest = self.resource
        manifest["status"] = copy.deepcopy(dict(status))
        self.edit(manifest)
        return manifest

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        self.writes.append(f"-{kind} {name}")
        self.view.drop(kind, self.child(kind, name))

    async def post_event(self, cluster: Manifest, reason: str, message: str, *, warning: bool) -> None:
        self.events.append((reason, message))

    # ---- reconcile.Members ---------------------------------------------------------------------------------------

    async def views(self, cluster_id: str, identity: tls.Data, addresses: list[Address]) -> dict[str, MemberView]:
        assert identity[names.CERT_KEY], "the operator asks with its identity"
        asked = [self.members.get(address.member) for address in addresses]
        return {m.name: self._view_of(m) for m in asked if m is not None and m.reachable}

    def _reach(self, address: Address, what: str) -> FakeMember:
        member = self.members[address.member]
        if not member.reachable:
            raise MemberUnreachable(f"{member.name} does not answer")
        self.calls.append(f"{what} {member.name} at {self.size}")
        return member

    async def publish(self, cluster_id: str, identity: tls.Data, address: Address, document: Mapping[str, Any]) -> None:
        self._reach(address, f"epoch {document['epoch']} to").take(document)

    async def start_drain(self, cluster_id: str, identity: tls.Data, address: Address) -> None:
        self._reach(address, "drain").volume.draining = True

    async def cancel_drain(self, cluster_id: str, identity: tls.Data, address: Address) -> None:
        self._reach(address, "cancel").volume.draining = False

    def cover_all(self) -> None:
        """Have everybody hold what everybody holds."""
        for member in self.members.values():
            member.covered_by = set(self.members)


def failing(world: World, error: ApiError, times: int) -> None:
    """Have the next `times` applies fail."""
    real, left = world.apply, [times]

    async def apply(manifest: Manifest, *, force: bool) -> Manifest:
        if left[0]:
            left[0] -= 1
            raise error
        return await real(manifest, force=force)

    world.apply = apply  # type: ignore[method-assign]
