"""When an object is applied: on a difference that matters, and on no other."""

from copy import deepcopy
from typing import Any

import pytest

from wavekv_operator.difference import differs, marked
from wavekv_operator.spec import Manifest

WANTED: Manifest = {
    "kind": "StatefulSet",
    "metadata": {"name": "demo", "labels": {"a": "1"}},
    "spec": {
        "replicas": 3,
        "paused": False,
        "cpu": "1000m",
        "memory": "1024Mi",
        "containers": [{"name": "wavekv", "args": ["serve", "--x"]}, {"name": "app"}],
        "extra": {},
    },
}


def live() -> Manifest:
    """What the API server makes of it."""
    body = deepcopy(marked(WANTED))
    body["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": []}
    body["spec"] |= {"cpu": "1", "memory": "1Gi", "revisionHistoryLimit": 10}
    del body["spec"]["paused"], body["spec"]["extra"]
    for container in body["spec"]["containers"]:
        container["imagePullPolicy"] = "Always"
    return body


def test_an_object_that_is_not_there_is_applied() -> None:
    assert differs(marked(WANTED), None)


def test_defaults_quantities_and_foreign_fields_are_no_difference() -> None:
    assert not differs(marked(WANTED), live())


def edited(change: Any) -> Manifest:
    body = live()
    change(body)
    return body


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["spec"].update(replicas=2),
        lambda body: body["spec"].update(cpu="2"),
        lambda body: body["metadata"]["labels"].pop("a"),
        lambda body: body["spec"]["containers"][0]["args"].append("--y"),
        lambda body: body["spec"]["containers"].pop(),
        lambda body: body["metadata"].pop("annotations"),
    ],
)
def test_an_edited_field_is_a_difference(change: Any) -> None:
    assert differs(marked(WANTED), edited(change))


def test_a_field_that_is_no_longer_wanted_is_a_difference() -> None:
    less = deepcopy(WANTED)
    del less["metadata"]["labels"]
    assert differs(marked(less), live())


def test_items_that_another_manager_added_to_a_keyed_list_stay() -> None:
    body = live()
    body["spec"]["containers"].append({"name": "injected"})
    assert not differs(marked(WANTED), body)


def test_a_volume_that_is_mounted_twice_is_compared_by_its_paths() -> None:
    mounts = [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]
    wanted = marked({**WANTED, "spec": {"volumeMounts": mounts}})
    assert not differs(wanted, deepcopy(wanted))
    other = deepcopy(wanted)
    other["spec"]["volumeMounts"].pop()
    assert differs(wanted, other)


def test_a_version_precondition_is_no_difference() -> None:
    wanted = deepcopy(WANTED)
    wanted["metadata"]["resourceVersion"] = "3"
    assert not differs(marked(wanted), live())
