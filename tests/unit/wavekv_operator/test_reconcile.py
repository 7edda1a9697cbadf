"""Passes over one cluster against a Kubernetes and members that are fakes: what is built, when members come and go."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.kubernetes_world import CLUSTER, KEY, NAMESPACE, World, failing
from wavekv_operator import names, tls
from wavekv_operator.errors import ApiError, MemberUnreachable
from wavekv_operator.settings import Settings
from wavekv_operator.sidecar_client import Address
from wavekv_operator.spec import Manifest


def document(world: World) -> dict[str, object]:
    text = world.child("ConfigMap", names.membership(CLUSTER))["data"][names.MEMBERSHIP_KEY]
    decoded: dict[str, object] = json.loads(text)
    return decoded


async def settled(**spec: Any) -> World:
    world = World(**spec)
    await world.settle()
    world.cover_all()
    return world


async def test_a_new_cluster_gets_its_children_and_becomes_ready() -> None:
    world = await settled()

    made = {f"{kind} {manifest['metadata']['name']}" for kind, manifest in world.view.children(KEY)}
    assert made >= {
        "StatefulSet demo",
        "Service demo-peers",
        "PodDisruptionBudget demo",
        "ConfigMap demo-membership",
        "ConfigMap demo-authorities",
        "Secret demo-ca",
        "Secret demo-operator-tls",
    }
    assert world.condition("Ready") == ("True", "AllMembersReady")
    assert world.condition("Progressing") == ("False", "Settled")
    assert world.condition("Converged") == ("True", "AllEqual")
    status = world.resource["status"]
    assert [member["name"] for member in status["members"]] == ["demo-0", "demo-1", "demo-2"]
    assert status["observedGeneration"] == 1


async def test_a_quiet_cluster_costs_no_writes() -> None:
    world = await settled()
    writes, calls = list(world.writes), list(world.calls)

    outcome = await world.one_pass()

    assert (world.writes, world.calls) == (writes, calls)
    assert outcome.again_seconds == world.settings.resync_seconds


async def test_founding_ends_only_when_every_first_member_has_reported() -> None:
    world = World()
    world.starts_members = False
    await world.settle()
    assert document(world)["bootstrap"] is True
    assert document(world)["epoch"] == 1

    world.starts_members = True
    await world.settle()

    assert document(world)["bootstrap"] is False
    assert document(world)["epoch"] == 2
    assert all(member.volume.epoch == 2 for member in world.members.values())


async def test_claims_that_were_kept_make_nobody_a_founder() -> None:
    world = await settled()
    world.delete_cluster()
    world.create_cluster()

    await world.one_pass()

    assert document(world)["bootstrap"] is False


async def test_a_cluster_made_again_takes_up_the_epoch_its_volumes_know() -> None:
    world = await settled(replicas=2)
    world.change_spec(replicas=3)
    await world.settle()
    known, volumes = document(world)["epoch"], {name: volume.uuid for name, volume in world.volumes.items()}
    world.delete_cluster()
    world.create_cluster()

    await world.settle()

    assert int(str(document(world)["epoch"])) > int(str(known))
    assert {member.name: member.volume.uuid for member in world.members.values()} == volumes
    assert world.condition("Ready") == ("True", "AllMembersReady")


async def test_members_are_admitted_once_they_report_and_have_to_heal_for_that_epoch() -> None:
    world = await settled()
    world.starts_members = False
    world.change_spec(replicas=5)
    await world.settle()
    assert world.size == 5
    assert document(world)["members"] == ["demo-0", "demo-1", "demo-2"]

    world.starts_members = True
    await world.settle()

    assert document(world)["members"] == [f"demo-{i}" for i in range(5)]
    assert document(world)["admitted"] == {"demo-0": 1, "demo-1": 1, "demo-2": 1, "demo-3": 3, "demo-4": 3}
    assert world.condition("Ready") == ("True", "AllMembersReady")


async def test_a_member_is_drained_locked_out_and_only_then_its_pod_goes() -> None:
    world = await settled()
    world.change_spec(replicas=2)
    await world.one_pass()
    assert "drain demo-2 at 3" in world.calls
    assert world.size == 3

    world.cover_all()
    await world.settle()

    assert world.size == 2
    assert document(world)["members"] == ["demo-0", "demo-1"]
    told = [call for call in world.calls if call.startswith("epoch 3")]
    assert told == ["epoch 3 to demo-0 at 3", "epoch 3 to demo-1 at 3", "epoch 3 to demo-2 at 3"]
    assert ("MembershipChanged", "epoch 3: demo-0, demo-1") in world.events
    assert names.claim("demo-2") in {m["metadata"]["name"] for m in world.view.all("PersistentVolumeClaim")}


async def test_a_pod_stays_until_every_remaining_member_knows_that_its_member_left() -> None:
    world = await settled()
    publish = world.publish

    async def lost(
        cluster_id: str, identity: tls.Data, address: Address, document: Mapping[str, object], *, override: bool
    ) -> None:
        if address.member == "demo-0":
            raise MemberUnreachable("the request was lost")
        await publish(cluster_id, identity, address, document, override=override)

    world.publish = lost  # type: ignore[method-assign]
    world.change_spec(replicas=2)
    for _ in range(5):
        await world.one_pass()
        world.cover_all()
    assert document(world)["members"] == ["demo-0", "demo-1"]
    assert world.size == 3

    world.publish = publish  # type: ignore[method-assign]
    await world.settle()
    assert world.size == 2


async def test_members_leave_one_at_a_time() -> None:
    world = await settled(replicas=5)
    world.cover_all()
    world.change_spec(replicas=2)
    await world.settle()

    drains = [call for call in world.calls if call.startswith("drain")]
    assert drains == ["drain demo-4 at 5", "drain demo-3 at 4", "drain demo-2 at 3"]
    assert world.size == 2


async def test_a_member_whose_writes_others_lack_stays_and_the_condition_says_how_to_force_it() -> None:
    world = await settled()
    for member in world.members.values():
        member.covered_by = {"demo-0"}
    world.change_spec(replicas=2)
    await world.settle()
    assert world.condition("ScaleDownPrevented") == ("False", "NotPrevented")

    world.pass_time(seconds=world.settings.drain_patience_seconds)
    await world.settle()

    assert world.size == 3
    assert world.condition("ScaleDownPrevented") == ("True", "NotCovered")
    message = next(c for c in world.resource["status"]["conditions"] if c["type"] == "ScaleDownPrevented")["message"]
    assert "demo-1" in message
    assert f"{names.FORCE_ANNOTATION}=demo-2" in message
    assert "NotCovered" in [reason for reason, _ in world.events]

    world.annotate(**{names.FORCE_ANNOTATION.replace("/", "__"): "demo-2"})
    await world.settle()
    assert world.size == 2
    assert document(world)["members"] == ["demo-0", "demo-1"]


async def test_a_forgotten_force_annotation_does_not_skip_the_drain() -> None:
    world = await settled()
    for member in world.members.values():
        member.covered_by = set()
    world.annotate(**{names.FORCE_ANNOTATION.replace("/", "__"): "demo-2"})
    world.change_spec(replicas=2)
    await world.settle()
    assert world.members["demo-2"].volume.draining
    assert world.size == 3

    world.pass_time(seconds=world.settings.drain_patience_seconds)
    await world.settle()
    assert world.size == 2


async def test_patience_is_for_one_member_not_for_the_whole_way_down() -> None:
    world = await settled(replicas=4)
    for member in world.members.values():
        member.covered_by = set()
    world.change_spec(replicas=2)
    await world.settle()
    world.pass_time(seconds=world.settings.drain_patience_seconds)
    world.members["demo-3"].covered_by = {"demo-0", "demo-1", "demo-2"}
    await world.settle()

    assert world.size == 3
    assert world.condition("ScaleDownPrevented") == ("False", "NotPrevented")


@pytest.mark.parametrize(("silent", "reason"), [("demo-2", "MemberUnreachable"), ("demo-0", "ReplicaUnreachable")])
async def test_scale_down_waits_for_members_that_do_not_answer(silent: str, reason: str) -> None:
    world = await settled()
    world.members[silent].reachable = False
    world.change_spec(replicas=2)
    await world.settle()
    world.pass_time(seconds=world.settings.drain_patience_seconds)
    await world.settle()

    assert world.size == 3
    assert world.condition("ScaleDownPrevented") == ("True", reason)

    world.members[silent].reachable = True
    world.cover_all()
    await world.settle()
    assert world.size == 2


async def test_a_healing_member_does_not_leave() -> None:
    world = await settled()
    world.members["demo-2"].healing = True
    world.change_spec(replicas=2)
    await world.settle()
    world.pass_time(seconds=world.settings.drain_patience_seconds)
    await world.settle()

    assert world.condition("ScaleDownPrevented") == ("True", "MemberHealing")
    assert world.size == 3


async def test_coverage_reported_by_a_process_that_is_gone_does_not_count() -> None:
    world = await settled()
    world.change_spec(replicas=2)
    await world.one_pass()
    real, earlier = world.members["demo-0"].inc, dict.fromkeys(["demo-0"], world.members["demo-0"].inc)
    world.members["demo-2"].covered_by = {"demo-0", "demo-1"}
    view_of = world._view_of

    def with_earlier(member: object) -> object:
        view = view_of(member)  # type: ignore[arg-type]
        if view.drain is None:
            return view
        drain = type(view.drain)(True, True, False, {**view.drain.covered_by, **earlier}, ())
        return type(view)(**{**{f: getattr(view, f) for f in view.__slots__}, "drain": drain})

    world._view_of = with_earlier  # type: ignore[assignment]
    world.members["demo-0"].inc = real + 1
    await world.settle()
    assert world.size == 3


async def test_growing_again_cancels_a_drain() -> None:
    world = await settled()
    for member in world.members.values():
        member.covered_by = set()
    world.change_spec(replicas=2)
    await world.settle()
    assert world.members["demo-2"].volume.draining

    world.change_spec(replicas=3)
    await world.settle()

    assert not world.members["demo-2"].volume.draining
    assert world.condition("Draining") == ("False", "NotDraining")
    assert world.condition("Ready") == ("True", "AllMembersReady")


async def test_a_removed_member_that_is_wanted_again_is_admitted_anew() -> None:
    world = await settled()
    world.change_spec(replicas=2)
    await world.settle()
    world.change_spec(replicas=3)
    await world.settle()

    assert document(world)["admitted"] == {"demo-0": 1, "demo-1": 1, "demo-2": 4}
    assert not world.volumes["demo-2"].draining
    assert world.condition("Ready") == ("True", "AllMembersReady")


async def test_a_lost_membership_is_made_anew_from_what_members_know() -> None:
    world = await settled()
    known = document(world)
    world.view.drop("ConfigMap", world.child("ConfigMap", names.membership(CLUSTER)))
    for member in world.members.values():
        member.reachable = False
    await world.one_pass()
    assert world.view.get("ConfigMap", (NAMESPACE, names.membership(CLUSTER))) is None

    for member in world.members.values():
        member.reachable = True
    await world.settle()

    assert document(world)["members"] == known["members"]
    assert document(world)["epoch"] == int(str(known["epoch"])) + 1
    assert document(world)["admitted"] == known["admitted"]


async def test_a_member_that_missed_the_newest_epoch_has_to_heal_when_the_membership_was_lost() -> None:
    world = await settled()
    world.change_spec(replicas=2)
    await world.settle()
    world.starts_members = False
    world.change_spec(replicas=3)
    await world.settle()
    world.starts_members = True
    await world.settle()
    # Removed in epoch 3 and admitted again in epoch 4, of which its volume has heard nothing.
    lagging = world.members["demo-2"].volume
    lagging.epoch, lagging.members, lagging.admitted = 2, ("demo-0", "demo-1", "demo-2"), 1
    world.view.drop("ConfigMap", world.child("ConfigMap", names.membership(CLUSTER)))

    await world.settle()

    # The document that the others hold, which the operator signed, says since when: after it healed last.
    assert document(world)["admitted"] == {"demo-0": 1, "demo-1": 1, "demo-2": 4}
    assert document(world)["epoch"] == 5


async def test_a_damaged_membership_is_named_and_nothing_is_done() -> None:
    world = await settled()
    config_map = world.child("ConfigMap", names.membership(CLUSTER))
    world.edit({**config_map, "metadata": dict(config_map["metadata"]), "data": {names.MEMBERSHIP_KEY: "{"}})
    writes = list(world.writes)

    outcome = await world.one_pass()

    assert outcome.error is not None
    assert world.condition("Progressing") == ("True", "ReconcileFailed")
    assert world.writes == writes


async def test_a_lost_race_for_the_membership_publishes_nothing() -> None:
    world = World()
    world.starts_members = False
    await world.settle()
    world.starts_members = True
    world.run_controllers()
    await world.one_pass()
    assert [call for call in world.calls if call.startswith("certificate")], "members have their certificates now"
    calls = list(world.calls)
    failing(world, ApiError("conflict", 409), 1)

    outcome = await world.one_pass()

    assert outcome.error is not None
    assert world.calls == calls
    await world.settle()
    assert document(world)["epoch"] == 2


async def test_a_volume_that_was_replaced_is_said_in_an_event() -> None:
    world = await settled()
    del world.volumes["demo-1"]
    world.restart("demo-1")
    await world.settle()

    assert "VolumeReplaced" in [reason for reason, _ in world.events]


async def test_a_template_with_host_access_is_refused_by_path_and_what_runs_stays() -> None:
    world = await settled()
    containers = [{"name": "app", "image": "app:1"}]
    volumes = [{"name": "root", "hostPath": {"path": "/"}}]
    world.change_spec(template={"spec": {"containers": containers, "volumes": volumes}})
    writes = list(world.writes)

    await world.settle()

    status, reason = world.condition("Accepted")
    assert (status, reason) == ("False", "TemplateRefused")
    message = next(c for c in world.resource["status"]["conditions"] if c["type"] == "Accepted")["message"]
    assert message.startswith("spec.template.spec.volumes[0].hostPath")
    assert world.writes == writes
    assert world.resource["status"]["observedGeneration"] == 2

    world.change_spec(template={"spec": {"containers": containers}})
    await world.settle()
    assert world.condition("Accepted") == ("True", "Accepted")


async def test_a_paused_cluster_is_watched_and_not_touched() -> None:
    world = await settled()
    world.annotate(**{names.PAUSED_ANNOTATION.replace("/", "__"): "true"})
    world.change_spec(replicas=5)
    writes = list(world.writes)

    await world.settle()

    assert world.writes == writes
    assert world.condition("Paused") == ("True", "PausedByAnnotation")


async def test_an_edited_child_is_set_right_and_a_deleted_one_made_again() -> None:
    world = await settled()
    live = world.child("StatefulSet", CLUSTER)
    world.edit({**live, "metadata": dict(live["metadata"]), "spec": {**live["spec"], "replicas": 1}})
    world.view.drop("PodDisruptionBudget", world.child("PodDisruptionBudget", CLUSTER))

    await world.one_pass()

    assert world.size == 3
    assert world.child("PodDisruptionBudget", CLUSTER)["spec"]["maxUnavailable"] == 1


async def test_an_object_that_the_api_spells_in_its_own_way_keeps_nobody_busy() -> None:
    world = await settled()
    live = world.child("PodDisruptionBudget", CLUSTER)
    spec = {**live["spec"], "maxUnavailable": "one"}
    world.edit({**live, "metadata": dict(live["metadata"]), "spec": spec})

    async def update(manifest: Manifest, uid: str) -> Manifest:
        assert manifest["kind"] == "PodDisruptionBudget"
        return world.child("PodDisruptionBudget", CLUSTER)

    world.update = update  # type: ignore[method-assign]
    outcome = await world.one_pass()
    assert outcome.again_seconds == world.settings.resync_seconds


async def test_a_single_member_has_no_disruption_budget() -> None:
    world = await settled(replicas=2)
    world.change_spec(replicas=1)
    await world.settle()

    assert world.view.get("PodDisruptionBudget", KEY) is None


async def test_a_newer_operator_keeps_the_image_that_a_cluster_runs_with() -> None:
    world = await settled()
    world.reconciler._settings = Settings(member_image="wavekv-sidecar:2")
    writes = list(world.writes)
    await world.settle()
    assert world.writes == writes

    world.change_spec(image="wavekv-sidecar:3")
    await world.settle()
    container = world.child("StatefulSet", CLUSTER)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "wavekv-sidecar:3"


async def test_a_cluster_that_is_being_deleted_is_left_alone() -> None:
    world = World()
    manifest = world.resource
    manifest["metadata"]["deletionTimestamp"] = "2026-11-01T00:00:00Z"
    world.edit(manifest)

    await world.one_pass()

    assert world.writes == []
