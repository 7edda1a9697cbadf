"""A Kubernetes that has only what the operator leans on: an API with versions and conflicts, a StatefulSet controller,
and members that speak like real ones, each with a key and a certificate. Time stands still until a test moves it;
nothing waits. What the watches do not bring, because it lacks the operator's label, is in `unlabelled`.

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

from tests.fakes.enrolled import EPOCH_JUMP_MAX, Credentials, is_signed
from wavekv_operator import names, tls
from wavekv_operator.errors import ApiConflict, ApiError, ApiNotFound, MemberRefused, MemberUnreachable
from wavekv_operator.membership import Drain, MemberView
from wavekv_operator.reconcile import Outcome, Reconciler
from wavekv_operator.settings import Settings
from wavekv_operator.sidecar_client import Address, Sightings
from wavekv_operator.spec import Manifest
from wavekv_operator.view import View

NAMESPACE = "shop"
CLUSTER = "demo"
KEY = (NAMESPACE, CLUSTER)
PASSES_MAX = 60
TOKEN_PREFIX = "token-of-"


@dataclass
class Volume:
    """What a member's directory remembers."""

    uuid: str
    node_id: int
    credentials: Credentials
    epoch: int | None = None
    members: tuple[str, ...] = ()
    admitted: int | None = None
    healed: int | None = None
    draining: bool = False
    document: Mapping[str, Any] | None = None


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
    token: str = ""
    """What the kubelet gave to its pod."""
    claims_epoch: int | None = None
    """What a hostile member says of the epoch it knows."""
    claims_members: tuple[str, ...] | None = None

    @property
    def included(self) -> bool:
        return self.name in self.volume.members

    def take(self, document: Mapping[str, Any], bundle: bytes, *, override: bool = False) -> None:
        """Take a document; an older or far one is refused unless by override, an unsigned one always."""
        volume, known = self.volume, self.volume.epoch
        if not is_signed(document, bundle):
            raise MemberRefused(f"{self.name}: no authority signed this", "bad_signature")
        if not override and known is not None:
            if document["epoch"] < known:
                raise MemberRefused(f"{self.name} knows epoch {known}", "stale_epoch")
            if document["epoch"] - known > EPOCH_JUMP_MAX:
                raise MemberRefused(f"{self.name} knows epoch {known}", "epoch_jump")
        volume.document = dict(document)
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
            epoch=volume.epoch if self.claims_epoch is None else self.claims_epoch,
            members=volume.members if self.claims_members is None else self.claims_members,
            admitted_epoch=volume.admitted,
            drain=drain if volume.draining else None,
            certificate=volume.credentials.der,
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
        self.unlabelled: dict[tuple[str, str], Manifest] = {}
        """Objects that the API has and the view has not, most of them without the label, by kind and name."""
        self.reviews: list[tuple[str, str]] = []
        """Tokens that the API was asked about, with their audiences."""
        self._versions = itertools.count(1)
        self.reconciler = Reconciler(self, self, self.view, self.settings, lambda: self.now)
        self.create_cluster(**spec)

    # ---- the custom resource -----------------------------------------------------------------------------------

    def create_cluster(self, **spec: Any) -> None:
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
        if self.view.wants(manifest["kind"], manifest):
            self.view.put(manifest["kind"], manifest)
        else:  # the API has it all the same
            self.unlabelled[manifest["kind"], manifest["metadata"]["name"]] = manifest

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
        """Delete the resource; what it owns goes with it, volumes stay."""
        uid = self.resource["metadata"]["uid"]
        owned = [item for item in self.view.children(KEY) if item[0] == "Pod" or _owner_uid(item[1]) == uid]
        for kind, manifest in [(names.KIND, self.resource), *owned]:
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
        if live is None or "spec" not in live:
            return
        wanted = [names.member(CLUSTER, ordinal) for ordinal in range(live["spec"]["replicas"])]
        for manifest in list(self.view.all("Pod")):
            owner = _owner_uid(manifest)  # pods of a set that is gone are collected; what only bears labels stays
            foreign = owner is not None and owner != live["metadata"]["uid"]
            if foreign or (owner is not None and manifest["metadata"]["name"] not in wanted):
                self.view.drop("Pod", manifest)
                self.members.pop(manifest["metadata"]["name"], None)
        for name in wanted:
            self._make("PersistentVolumeClaim", names.claim(name), {})
            self._pod(name)
            if self.starts_members and name not in self.members and self._has_files():
                self._start(name)
            self._pod(name)
        count = len(wanted)
        ready = sum(name in self.members and self._view_of(self.members[name]).ready for name in wanted)
        status = {"replicas": count, "readyReplicas": ready, "updatedReplicas": count}
        status["observedGeneration"] = live["metadata"]["generation"]
        if live.get("status") != status:
            self.edit({**live, "metadata": dict(live["metadata"]), "status": status})

    def _start(self, name: str) -> None:
        if name not in self.volumes:
            credentials = Credentials(names.cluster_id(*KEY), name)
            self.volumes[name] = Volume(str(uuid.uuid4()), len(self.volumes) + 1, credentials)
        volume = self.volumes[name]
        if volume.credentials.name != name:  # a clone of another member's volume: its key is thrown away
            volume.credentials = Credentials(names.cluster_id(*KEY), name)
        token = f"{TOKEN_PREFIX}{name}/{self.child('Pod', name)['metadata']['uid']}"
        member = FakeMember(name, volume, inc=int(self.now.timestamp() * 1000) + len(self.calls), token=token)
        document = self._boot_document()
        if document is not None and (volume.epoch is None or document["epoch"] > volume.epoch):
            member.take(document, self.bundle)
        self.members[name] = member

    def restart(self, name: str) -> None:
        """Have a member's process start anew on its volume."""
        del self.members[name]
        self.calls.append(f"restart {name}")
        self._start(name)

    def _has_files(self) -> bool:
        """Tell whether what a pod mounts is there: else the kubelet waits."""
        wanted = (names.membership(CLUSTER), names.authorities(CLUSTER))
        return all(self.view.get("ConfigMap", (NAMESPACE, name)) is not None for name in wanted)

    @property
    def bundle(self) -> bytes:
        """The authorities that members trust."""
        return str(self.child("ConfigMap", names.authorities(CLUSTER))["data"][names.CA_KEY]).encode()

    def _boot_document(self) -> dict[str, Any] | None:
        """Return the document that a starting process finds; None stands for one that tells it nothing new."""
        found = self.view.get("ConfigMap", (NAMESPACE, names.membership(CLUSTER)))
        document: dict[str, Any] | None = None if found is None else json.loads(found["data"][names.MEMBERSHIP_KEY])
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
            uid, labels = str(uuid.uuid4()), names.labels(CLUSTER)
            metadata: Manifest = {"name": name, "namespace": NAMESPACE, "uid": uid, "labels": labels}
            if kind == "Pod":
                uid = self.child("StatefulSet", CLUSTER)["metadata"]["uid"]
                metadata["ownerReferences"] = [{"kind": "StatefulSet", "name": CLUSTER, "uid": uid, "controller": True}]
            self.edit({"kind": kind, "metadata": metadata, **body})
        elif any(live.get(key) != value for key, value in body.items()):
            self.edit({**live, "metadata": dict(live["metadata"]), **body})

    def _view_of(self, member: FakeMember) -> MemberView:
        incs = {name: other.inc for name, other in self.members.items()}
        return member.view({**dict.fromkeys(member.volume.members, 0), **incs})

    # ---- reconcile.Api -----------------------------------------------------------------------------------------

    def _live(self, kind: str, name: str) -> Manifest | None:
        return self.unlabelled.get((kind, name)) or self.view.get(kind, (NAMESPACE, name))

    async def create(self, manifest: Manifest) -> Manifest:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if self._live(kind, name) is not None:
            raise ApiConflict(f"{kind} {name} exists", 409)
        return self._write(manifest, None)

    async def update(self, manifest: Manifest, uid: str) -> Manifest:
        kind, metadata = manifest["kind"], manifest["metadata"]
        live = self._live(kind, metadata["name"])
        if live is None or live["metadata"]["uid"] != uid:
            raise ApiConflict(f"{kind} {metadata['name']} is another", 409)
        version = metadata.get("resourceVersion")
        if version is not None and live["metadata"]["resourceVersion"] != version:
            raise ApiConflict(f"{kind} {metadata['name']} changed meanwhile", 409)
        self.unlabelled.pop((kind, metadata["name"]), None)
        return self._write(manifest, live)

    def _write(self, manifest: Manifest, live: Manifest | None) -> Manifest:
        self.writes.append(f"{manifest['kind']} {manifest['metadata']['name']}")
        kept = {} if live is None else {key: value for key, value in live.items() if key == "status"}
        old: Manifest = {"uid": str(uuid.uuid4()), "generation": 0} if live is None else live["metadata"]
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

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        live = self._live(kind, name)
        if live is not None and live["metadata"]["uid"] != uid:
            raise ApiConflict(f"{kind} {name} is another", 409)
        self.writes.append(f"-{kind} {name}")
        self.view.drop(kind, self.child(kind, name))

    async def metadata(self, kind: str, namespace: str, name: str | None = None) -> list[Manifest]:
        found = [manifest for (of_kind, _), manifest in self.unlabelled.items() if of_kind == kind]
        found += [manifest for manifest in self.view.all(kind) if manifest["metadata"]["namespace"] == namespace]
        return [{"metadata": item["metadata"]} for item in found if name in {None, item["metadata"]["name"]}]

    async def review_token(self, token: str, audience: str) -> Mapping[str, Any]:
        """Say of a token which pod it is of; one of a pod that is gone is nobody's."""
        self.reviews.append((token, audience))
        pod, _, uid = token.removeprefix(TOKEN_PREFIX).partition("/")
        live = self.view.get("Pod", (NAMESPACE, pod))
        if live is None or live["metadata"]["uid"] != uid:
            return {"authenticated": False}
        extra = {names.POD_NAME_CLAIM: [pod], names.POD_UID_CLAIM: [uid]}
        user = {"username": names.service_account(NAMESPACE, "default"), "extra": extra}
        return {"authenticated": True, "audiences": [audience], "user": user}

    async def post_event(self, cluster: Manifest, reason: str, message: str, *, warning: bool) -> None:
        self.events.append((reason, message))

    # ---- reconcile.Members ---------------------------------------------------------------------------------------

    async def views(self, cluster_id: str, identity: tls.Data, addresses: list[Address]) -> Sightings:
        assert identity[names.CERT_KEY], "the operator asks with its identity"
        asked = [self.members.get(address.member) for address in addresses]
        answering = [member for member in asked if member is not None and member.reachable]
        verified = [m for m in answering if m.volume.credentials.holds(identity[names.CA_KEY], self.now)]
        unverified = frozenset(m.name for m in answering) - {m.name for m in verified}
        return Sightings({m.name: self._view_of(m) for m in verified}, unverified)

    def _reach(self, address: Address, what: str | None = None) -> FakeMember:
        """Return a member that answers; `what` it is told is noted, what it is asked is not."""
        member = self.members[address.member]
        if not member.reachable:
            raise MemberUnreachable(f"{member.name} does not answer")
        if what is not None:
            self.calls.append(f"{what} {member.name} at {self.size}")
        return member

    async def application(self, cluster_id: str, identity: tls.Data, address: Address) -> Mapping[str, Any]:
        member = self._reach(address)
        request = member.volume.credentials.request
        return {"name": member.name, "cluster_id": cluster_id, "request": request, "token": member.token or None}

    async def give_certificate(self, cluster_id: str, identity: tls.Data, address: Address, certificate: str) -> None:
        self._reach(address, "certificate to").volume.credentials.take(certificate, self.bundle, self.now)

    async def membership(self, cluster_id: str, identity: tls.Data, address: Address) -> Mapping[str, Any] | None:
        return self._reach(address).volume.document

    async def publish(
        self, cluster_id: str, identity: tls.Data, address: Address, document: Mapping[str, Any], *, override: bool
    ) -> None:
        what = f"epoch {document['epoch']} {'over all ' if override else ''}to"
        self._reach(address, what).take(document, self.bundle, override=override)

    async def start_drain(self, cluster_id: str, identity: tls.Data, address: Address) -> None:
        self._reach(address, "drain").volume.draining = True

    async def cancel_drain(self, cluster_id: str, identity: tls.Data, address: Address) -> None:
        self._reach(address, "cancel").volume.draining = False

    def cover_all(self) -> None:
        """Have everybody hold what everybody holds."""
        for member in self.members.values():
            member.covered_by = set(self.members)


def _owner_uid(manifest: Manifest) -> str | None:
    owners = manifest["metadata"].get("ownerReferences") or [{}]
    uid: str | None = owners[0].get("uid")
    return uid


def failing(world: World, error: ApiError, times: int) -> None:
    """Have the next `times` writes of children fail."""
    left = [times]

    def broken(real: Any) -> Any:
        async def write(*arguments: Any) -> Manifest:
            if left[0]:
                left[0] -= 1
                raise error
            made: Manifest = await real(*arguments)
            return made

        return write

    world.create = broken(world.create)  # type: ignore[method-assign]
    world.update = broken(world.update)  # type: ignore[method-assign]
