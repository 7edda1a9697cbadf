"""Which events wake a cluster: what somebody wants, and what became of children; not the operator's own words."""

import copy
from typing import Any

from wavekv_operator import names
from wavekv_operator.handlers import _Wiring
from wavekv_operator.view import Key, View

KEY = ("shop", "demo")
CLUSTER: dict[str, Any] = {
    "metadata": {"name": "demo", "namespace": "shop", "uid": "u-1", "generation": 1, "resourceVersion": "10"},
    "spec": {"replicas": 3},
}


class Woken:
    """Stands for keepers and metrics, and notes what they are told."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.forgotten: list[Key] = []
        self.view = View()
        self.wiring = _Wiring(self.view, self, self, self.forgotten.append)  # type: ignore[arg-type]
        self.wiring.opened.set()

    def wake(self, key: Key) -> None:
        self.keys.append(key)

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)

    def watch_event(self, kind: str) -> None:
        assert kind

    async def happens(self, what: str, manifest: dict[str, Any], kind: str = names.KIND) -> int:
        """Let an event arrive; return how often the cluster was woken by it."""
        before = len(self.keys)
        await self.wiring._handler(kind)(event={"type": what, "object": copy.deepcopy(manifest)})
        return len(self.keys) - before


def changed(version: int, **metadata: Any) -> dict[str, Any]:
    return {**CLUSTER, "metadata": {**CLUSTER["metadata"], "resourceVersion": str(version), **metadata}}


async def test_a_status_that_the_operator_wrote_wakes_nobody() -> None:
    woken = Woken()
    assert await woken.happens("ADDED", CLUSTER) == 1
    for version in range(11, 40):
        assert await woken.happens("MODIFIED", {**changed(version), "status": {"epoch": version}}) == 0
    held = woken.view.get(names.KIND, KEY)
    assert held is not None
    assert held["status"] == {"epoch": 39}, "but it is known"


async def test_a_wish_wakes_even_where_the_answer_to_a_status_brought_it_before_its_event() -> None:
    woken = Woken()
    await woken.happens("ADDED", CLUSTER)
    annotated = changed(11, annotations={names.PAUSED_ANNOTATION: "true"})
    woken.view.put(names.KIND, copy.deepcopy({**annotated, "status": {}}))
    assert await woken.happens("MODIFIED", annotated) == 1
    assert await woken.happens("MODIFIED", changed(12, generation=2)) == 1
    assert await woken.happens("MODIFIED", changed(13, generation=2, deletionTimestamp="now")) == 1


async def test_a_resource_that_was_made_again_wakes_and_one_that_is_gone_is_forgotten() -> None:
    woken = Woken()
    await woken.happens("ADDED", CLUSTER)
    await woken.happens("DELETED", CLUSTER)
    assert KEY in woken.forgotten
    assert await woken.happens("ADDED", changed(20, uid="u-2")) == 1
    assert await woken.happens("MODIFIED", changed(21, uid="u-2")) == 0


async def test_a_child_that_changed_wakes_its_cluster_every_time() -> None:
    woken = Woken()
    await woken.happens("ADDED", CLUSTER)
    metadata = {"name": "demo-0", "namespace": "shop", "uid": "p", "labels": names.labels("demo")}
    for version in ("11", "12"):
        pod = {"metadata": {**metadata, "resourceVersion": version}}
        assert await woken.happens("MODIFIED", pod, "Pod") == 1
