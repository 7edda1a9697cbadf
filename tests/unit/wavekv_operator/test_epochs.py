"""Which epoch is in force is the operator's word: signed, gone above only on proof, overridden only when asked to."""

import json
from typing import Any

import pytest

from tests.fakes.enrolled import is_signed
from tests.fakes.kubernetes_world import CLUSTER, KEY, World
from wavekv_operator import names
from wavekv_operator.errors import InvalidSpec
from wavekv_operator.spec import EPOCH_JUMP_MAX, EPOCH_MAX, OVERRIDE_EPOCH_MAX, read_cluster

OVERRIDE = names.OVERRIDE_ANNOTATION.replace("/", "__")


def document(world: World) -> dict[str, Any]:
    text = world.child("ConfigMap", names.membership(CLUSTER))["data"][names.MEMBERSHIP_KEY]
    decoded: dict[str, Any] = json.loads(text)
    return decoded


async def settled(**spec: Any) -> World:
    world = World(**spec)
    await world.settle()
    world.cover_all()
    return world


def condition(world: World, kind: str) -> str:
    found: str = next(item["message"] for item in world.resource["status"]["conditions"] if item["type"] == kind)
    return found


def drive_epoch(world: World, epoch: int, members: tuple[str, ...] = ()) -> None:
    """Have all members hold an epoch that nobody signed, as before epochs were."""
    for member in world.members.values():
        member.volume.epoch, member.volume.members, member.volume.document = epoch, members, None


# ---- signatures ----------------------------------------------------------------------------------------------------


async def test_the_membership_is_signed_as_members_check_it_and_what_is_signed_is_published() -> None:
    world = await settled()
    assert is_signed(document(world), world.bundle)
    assert all(member.volume.document == document(world) for member in world.members.values())


async def test_a_signature_that_is_still_good_is_kept() -> None:
    world = await settled()
    before = document(world)
    await world.settle()
    assert document(world) == before


@pytest.mark.parametrize("change", [{"epoch": 9}, {"members": ["demo-0"]}, {"signature": "AAAA"}, {"signature": None}])
async def test_a_config_map_that_somebody_edited_is_not_signed_for_them(change: dict[str, Any]) -> None:
    world = await settled()
    live = world.child("ConfigMap", names.membership(CLUSTER))
    edited = json.dumps({**document(world), **change})
    world.edit({**live, "metadata": dict(live["metadata"]), "data": {names.MEMBERSHIP_KEY: edited}})
    writes = list(world.writes)

    outcome = await world.one_pass()

    assert outcome.error is not None
    assert "not signed by this cluster's authority" in outcome.error.detail
    assert world.writes == writes

    world.view.drop("ConfigMap", world.child("ConfigMap", names.membership(CLUSTER)))
    await world.settle()
    assert document(world)["members"] == ["demo-0", "demo-1", "demo-2"]
    assert world.condition("Ready")[0] == "True"


async def test_a_membership_of_a_version_that_signed_nothing_is_signed_while_such_members_run() -> None:
    world = await settled()
    live_set, config_map = world.child("StatefulSet", CLUSTER), world.child("ConfigMap", names.membership(CLUSTER))
    template = live_set["spec"]["template"]
    container = {**template["spec"]["containers"][0], "args": ["serve", "--tls-cert", "c"]}
    old = {**template, "spec": {**template["spec"], "containers": [container]}}
    world.edit({**live_set, "metadata": dict(live_set["metadata"]), "spec": {**live_set["spec"], "template": old}})
    plain = {key: value for key, value in document(world).items() if key != "signature"}
    data = {names.MEMBERSHIP_KEY: json.dumps(plain)}
    world.edit({**config_map, "metadata": dict(config_map["metadata"]), "data": data})

    await world.settle()

    assert is_signed(document(world), world.bundle)
    assert document(world)["epoch"] == plain["epoch"]


# ---- what members report ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [3, 2 + EPOCH_JUMP_MAX, 3 + EPOCH_JUMP_MAX, EPOCH_MAX])
async def test_a_newer_epoch_that_a_member_only_claims_is_told_and_not_followed(epoch: int) -> None:
    world = await settled()
    before = document(world)
    liar = world.members["demo-1"]
    liar.claims_epoch, liar.claims_members = epoch, ("demo-1", "demo-7", "evil-0")

    await world.settle()

    assert document(world) == before
    assert world.size == 3
    assert world.condition("EpochAgreed") == ("False", "EpochNotOurs")
    assert f"demo-1 knows epoch {epoch}" in condition(world, "EpochAgreed")
    assert f"{names.OVERRIDE_ANNOTATION}=3" in condition(world, "EpochAgreed")
    assert "EpochNotOurs" in [reason for reason, _ in world.events]


async def test_other_members_under_the_same_epoch_are_not_believed() -> None:
    world = await settled()
    before = document(world)
    world.members["demo-1"].claims_members = ("demo-0", "demo-1", "demo-2", "demo-999")
    await world.settle()
    assert document(world) == before
    assert world.size == 3


async def test_an_epoch_that_the_operator_signed_and_lost_is_gone_above_with_the_members_it_names() -> None:
    world = await settled()
    old = world.child("ConfigMap", names.membership(CLUSTER))
    world.change_spec(replicas=2)
    await world.settle()
    world.change_spec(replicas=3)
    await world.settle()
    assert document(world)["epoch"] == 4
    live = world.child("ConfigMap", names.membership(CLUSTER))
    world.edit({**live, "metadata": dict(live["metadata"]), "data": old["data"]})

    await world.settle()

    assert document(world)["epoch"] == 5
    assert document(world)["admitted"] == {"demo-0": 1, "demo-1": 1, "demo-2": 4}


async def test_a_report_adds_only_members_that_have_a_volume_when_a_resource_is_made_again() -> None:
    world = await settled(replicas=2)
    world.delete_cluster()
    world.create_cluster(replicas=2)
    await world.one_pass()
    world.run_controllers()
    world.members["demo-1"].claims_members = ("demo-0", "demo-1", *(f"demo-{i}" for i in range(2, 900)), "evil-0")
    await world.settle()
    assert document(world)["members"] == ["demo-0", "demo-1"]
    assert world.size == 2


# ---- the override ----------------------------------------------------------------------------------------------------


async def test_an_override_brings_back_members_whose_epoch_was_driven_out_of_reach() -> None:
    world = await settled()
    drive_epoch(world, EPOCH_MAX)
    await world.settle()
    assert world.condition("EpochAgreed") == ("False", "EpochNotOurs")
    assert document(world)["epoch"] == 2

    world.annotate(**{OVERRIDE: "3"})
    await world.settle()

    assert document(world)["epoch"] == 3
    assert document(world)["members"] == ["demo-0", "demo-1", "demo-2"]
    assert document(world)["admitted"] == {"demo-0": 1, "demo-1": 1, "demo-2": 1}
    told = [call for call in world.calls if "over all" in call]
    assert told == [f"epoch 3 over all to demo-{i} at 3" for i in range(3)]
    assert world.condition("EpochAgreed") == ("True", "EpochOurs")
    assert world.condition("Ready")[0] == "True"
    override = world.resource["status"]["epochOverride"]
    assert override == {"epoch": 3, "from": EPOCH_MAX, "at": "2026-11-01T00:00:00Z"}
    assert ("EpochOverridden", f"epoch 3 was set over {EPOCH_MAX} by {names.OVERRIDE_ANNOTATION}") in world.events


async def test_an_override_is_carried_out_once() -> None:
    world = await settled()
    drive_epoch(world, EPOCH_MAX)
    world.annotate(**{OVERRIDE: "3"})
    await world.settle()
    world.change_spec(replicas=2)
    await world.settle()
    assert document(world)["epoch"] == 4
    calls = [call for call in world.calls if "over all" in call]

    world.view.drop("ConfigMap", world.child("ConfigMap", names.membership(CLUSTER)))
    await world.settle()

    assert document(world)["epoch"] == 5
    assert [call for call in world.calls if "over all" in call] == calls
    assert [reason for reason, _ in world.events].count("EpochOverridden") == 1


async def test_a_member_that_was_silent_is_told_when_it_answers() -> None:
    world = await settled()
    drive_epoch(world, EPOCH_MAX)
    world.members["demo-2"].reachable = False
    world.annotate(**{OVERRIDE: "3"})
    await world.settle()
    assert world.volumes["demo-2"].epoch == EPOCH_MAX

    world.members["demo-2"].reachable = True
    await world.settle()
    assert world.volumes["demo-2"].epoch == 3
    assert world.condition("EpochAgreed")[0] == "True"


async def test_an_override_upwards_reaches_over_the_jump_that_members_refuse() -> None:
    world = await settled()
    target = 10 * EPOCH_JUMP_MAX
    world.annotate(**{OVERRIDE: str(target)})
    await world.settle()
    assert {volume.epoch for volume in world.volumes.values()} == {target}
    assert world.condition("Ready")[0] == "True"


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "٣", str(OVERRIDE_EPOCH_MAX + 1), "9" * 400])
def test_an_override_that_is_no_epoch_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"metadata\.annotations\.wavekv\.io/override-epoch"):
        read_cluster(resource(text))


@pytest.mark.parametrize("epoch", [1, OVERRIDE_EPOCH_MAX])
def test_an_override_is_taken_at_its_bounds(epoch: int) -> None:
    assert read_cluster(resource(str(epoch))).override == epoch


def resource(text: str) -> dict[str, Any]:
    annotations = {names.OVERRIDE_ANNOTATION: text}
    return {"metadata": {"name": CLUSTER, "namespace": KEY[0], "uid": "u", "annotations": annotations}, "spec": {}}
