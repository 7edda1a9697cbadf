"""A child is created, never adopted: objects of somebody else are named, left as they are, and outlive the resource."""

import copy
import uuid
from typing import Any

import pytest

from tests.fakes.kubernetes_world import CLUSTER, KEY, NAMESPACE, World
from wavekv_operator import names
from wavekv_operator.errors import ChildNotOurs
from wavekv_operator.ownership import OWNED_KINDS, child_names, own_children
from wavekv_operator.spec import Manifest, read_cluster

PORTS = [{"name": "http", "containerPort": 8080}]
TEMPLATE = {"spec": {"containers": [{"name": "app", "image": "app:1", "ports": PORTS}]}}
"""With a named port, so that there is a Service of the cluster's name."""
CHILDREN = [
    (kind, name)
    for kind, listed in child_names(CLUSTER).items()
    for name in listed
    if name != names.shared_tls_secret(CLUSTER)
]


def theirs(kind: str, name: str, **metadata: Any) -> Manifest:
    return {
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": str(uuid.uuid4()),
            "resourceVersion": "1",
            **metadata,
        },
        "data": {"password": "c2VjcmV0"},
    }


def message(world: World, kind: str) -> str:
    found: str = next(item["message"] for item in world.resource["status"]["conditions"] if item["type"] == kind)
    return found


def made(world: World, kind: str, name: str) -> bool:
    return f"{kind} {name}" in world.writes


@pytest.mark.parametrize(("kind", "name"), CHILDREN)
async def test_an_object_without_our_label_is_refused_by_name_and_left_alone(kind: str, name: str) -> None:
    world = World(template=TEMPLATE)
    foreign = theirs(kind, name)
    world.unlabelled[kind, name] = copy.deepcopy(foreign)

    await world.settle()

    assert world.condition("Accepted") == ("False", "ChildNotOurs")
    assert f"{kind} {name} exists" in message(world, "Accepted")
    assert world.unlabelled[kind, name] == foreign
    assert not made(world, kind, name)
    assert "ChildNotOurs" in [reason for reason, _ in world.events]

    del world.unlabelled[kind, name]
    await world.settle()
    assert world.condition("Accepted") == ("True", "Accepted")
    assert world.condition("Ready")[0] == "True"


@pytest.mark.parametrize(("kind", "name"), CHILDREN)
async def test_our_labels_on_an_object_of_somebody_else_fool_nobody(kind: str, name: str) -> None:
    world = World(template=TEMPLATE)
    other_owner = [{"kind": names.KIND, "name": CLUSTER, "uid": "another-uid", "controller": True}]
    for owners in ([], other_owner):
        foreign = theirs(kind, name, labels=names.labels(CLUSTER), ownerReferences=owners)
        world.edit(copy.deepcopy(foreign))
        await world.settle()
        assert world.condition("Accepted") == ("False", "ChildNotOurs")
        assert world.child(kind, name)["data"] == foreign["data"]
        assert world.child(kind, name)["metadata"]["ownerReferences"] == owners
        assert world.writes == []
        world.view.drop(kind, world.child(kind, name))


@pytest.mark.parametrize(("kind", "name"), CHILDREN)
async def test_an_object_that_takes_a_childs_place_later_is_neither_changed_nor_deleted(kind: str, name: str) -> None:
    world = World(template=TEMPLATE)
    await world.settle()
    world.view.drop(kind, world.child(kind, name))
    foreign = theirs(kind, name, labels=names.labels(CLUSTER))
    world.edit(copy.deepcopy(foreign))
    writes = list(world.writes)

    await world.settle()
    world.change_spec(template=None, disruptionBudget={"enabled": False})
    await world.settle()

    assert world.condition("Accepted") == ("False", "ChildNotOurs")
    assert world.child(kind, name)["data"] == foreign["data"]
    assert world.writes == writes


async def test_what_comes_into_a_childs_place_between_reading_and_writing_is_refused_by_the_api() -> None:
    world = World()
    real = world.create

    async def raced(manifest: Manifest) -> Manifest:
        if manifest["kind"] == "ConfigMap":
            world.unlabelled["ConfigMap", manifest["metadata"]["name"]] = theirs(
                "ConfigMap", manifest["metadata"]["name"]
            )
        return await real(manifest)

    world.create = raced  # type: ignore[method-assign]
    await world.one_pass()
    assert world.condition("Accepted") == ("False", "ChildNotOurs")
    assert world.unlabelled["ConfigMap", "demo-authorities"]["data"] == {"password": "c2VjcmV0"}


async def test_an_object_that_was_replaced_between_reading_and_changing_is_refused_by_the_api() -> None:
    world = World()
    await world.settle()
    stale = world.child("PodDisruptionBudget", CLUSTER)
    with pytest.raises(Exception, match="is another"):
        await world.update(copy.deepcopy(stale), "another-uid")
    with pytest.raises(Exception, match="is another"):
        await world.delete("PodDisruptionBudget", NAMESPACE, CLUSTER, "another-uid")


async def test_children_of_a_resource_that_is_gone_are_waited_for_until_they_are_collected() -> None:
    world = World()
    await world.settle()
    left = copy.deepcopy(world.child("StatefulSet", CLUSTER))
    world.delete_cluster()
    world.edit(left)
    world.create_cluster()
    await world.one_pass()
    assert world.condition("Accepted") == ("False", "ChildNotOurs")

    del world.unlabelled["StatefulSet", CLUSTER]
    await world.settle()
    assert world.condition("Ready")[0] == "True"


async def test_what_tenants_label_as_ours_is_held_for_children_of_resources_there_are_alone() -> None:
    world = World()
    await world.settle()
    held = sum(1 for kind in OWNED_KINDS for _ in world.view.all(kind))
    for kind in OWNED_KINDS:
        for count in range(50):
            world.view.put(kind, theirs(kind, f"demo-{count}", labels=names.labels(CLUSTER)))
            world.view.put(kind, theirs(kind, f"other{count}-ca", labels=names.labels(f"other{count}")))
    assert sum(1 for kind in OWNED_KINDS for _ in world.view.all(kind)) == held
    assert held <= sum(len(listed) for listed in child_names(CLUSTER).values())


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
async def test_state_that_lost_its_labels_is_not_written_over(kind: str) -> None:
    name = {"Secret": "demo-ca", "ConfigMap": "demo-authorities"}[kind]
    world = World()
    await world.settle()
    stripped = copy.deepcopy(world.child(kind, name))
    stripped["metadata"]["labels"] = {}
    world.view.drop(kind, world.child(kind, name))
    world.unlabelled[kind, name] = stripped
    before = copy.deepcopy(stripped)

    outcome = await world.one_pass()

    assert outcome.error is not None
    assert f"kubectl label --overwrite {kind.lower()} {name}" in outcome.error.detail
    assert world.unlabelled[kind, name] == before


async def test_a_child_that_can_be_built_anew_gets_its_labels_back() -> None:
    world = World()
    await world.settle()
    stripped = copy.deepcopy(world.child("PodDisruptionBudget", CLUSTER))
    stripped["metadata"]["labels"] = {}
    world.view.drop("PodDisruptionBudget", world.child("PodDisruptionBudget", CLUSTER))
    world.unlabelled["PodDisruptionBudget", CLUSTER] = stripped

    await world.settle()

    mended = world.child("PodDisruptionBudget", CLUSTER)
    assert mended["metadata"]["uid"] == stripped["metadata"]["uid"]
    assert mended["metadata"]["labels"] == names.labels(CLUSTER)


# ---- pods and claims -------------------------------------------------------------------------------------------------


async def test_a_pod_that_only_bears_our_labels_is_no_member() -> None:
    world = World(replicas=2)
    await world.settle()
    pod = theirs("Pod", "demo-7", labels=names.labels(CLUSTER))
    pod["status"] = {"podIP": "10.0.0.99"}
    world.edit(pod)
    calls = list(world.calls)
    await world.one_pass()
    assert [item["name"] for item in world.resource["status"]["members"]] == ["demo-0", "demo-1"]
    assert [call for call in world.calls if "demo-7" in call] == []
    assert world.calls == calls


async def test_a_claim_of_somebody_else_is_not_taken_by_its_name() -> None:
    world = World(replicas=2)
    claim = names.claim("demo-1")
    world.unlabelled["PersistentVolumeClaim", claim] = theirs("PersistentVolumeClaim", claim)
    await world.settle()
    assert world.condition("Accepted") == ("False", "ChildNotOurs")
    assert f"PersistentVolumeClaim {claim}" in message(world, "Accepted")
    assert f"{names.CLUSTER_LABEL}={CLUSTER}" in message(world, "Accepted")
    assert world.view.get("StatefulSet", KEY) is None

    labelled = world.unlabelled.pop(("PersistentVolumeClaim", claim))
    labelled["metadata"]["labels"] = names.labels(CLUSTER)
    world.edit(labelled)
    await world.settle()
    assert world.condition("Ready")[0] == "True"


async def test_growing_looks_at_the_claims_of_the_new_members_alone() -> None:
    world = World(replicas=2)
    await world.settle()
    claim = names.claim("demo-2")
    world.unlabelled["PersistentVolumeClaim", claim] = theirs("PersistentVolumeClaim", claim)
    world.change_spec(replicas=3)
    await world.settle()
    assert world.size == 2
    assert claim in message(world, "Accepted")


async def test_a_claim_that_only_bears_our_label_makes_no_volume_of_ours() -> None:
    world = World()
    world.edit(theirs("PersistentVolumeClaim", "somebodys", labels=names.labels(CLUSTER)))
    await world.settle()
    assert world.condition("Ready")[0] == "True"
    text = world.child("ConfigMap", names.membership(CLUSTER))["data"][names.MEMBERSHIP_KEY]
    assert '"demo-0": 1' in text, "the first members founded the cluster"


def test_owning_takes_the_controllers_uid_and_nothing_less() -> None:
    metadata = {"name": CLUSTER, "namespace": NAMESPACE, "uid": "u-1"}
    cluster = read_cluster({"metadata": metadata, "spec": {}})
    ours = {"kind": names.KIND, "name": CLUSTER, "uid": "u-1", "controller": True}
    mine = theirs("Service", "demo-peers", ownerReferences=[ours])
    assert own_children(cluster, [("Service", mine)]) == {("Service", "demo-peers"): mine}
    for owners in ([{**ours, "uid": "u-2"}], [{**ours, "controller": False}], [{"uid": "u-1"}], None):
        with pytest.raises(ChildNotOurs):
            own_children(cluster, [("Service", theirs("Service", "demo-peers", ownerReferences=owners))])
    assert own_children(cluster, [("Service", theirs("Service", "other"))]) == {}


async def test_the_shared_certificate_of_earlier_versions_is_emptied_once_nothing_mounts_it_if_it_is_ours() -> None:
    name = names.shared_tls_secret(CLUSTER)
    world = World()
    await world.settle()
    world.edit(theirs("Secret", name, labels=names.labels(CLUSTER)))
    await world.settle()
    assert not made(world, "Secret", name)

    owner = [names.owner_reference(world.resource)]
    world.view.drop("Secret", world.child("Secret", name))
    world.edit(theirs("Secret", name, labels=names.labels(CLUSTER), ownerReferences=owner))
    pod = world.child("Pod", "demo-1")
    spec = {"volumes": [{"name": "wavekv-tls", "secret": {"secretName": name}}]}
    world.edit({**pod, "metadata": dict(pod["metadata"]), "spec": spec})
    await world.settle()
    assert not made(world, "Secret", name)

    world.edit({**pod, "metadata": dict(pod["metadata"]), "spec": {}})
    await world.settle()
    assert world.child("Secret", name)["data"] == {}
    assert world.writes.count(f"Secret {name}") == 1
