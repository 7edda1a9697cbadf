"""Whatever happens to a cluster, in any order: epochs only grow, nobody leaves uncovered, and it settles in the end.

The world is `tests.fakes.kubernetes_world`; every step is followed by one pass, and the invariants are checked on what
members were told and on what was written.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes.enrolled import is_signed
from tests.fakes.kubernetes_world import CLUSTER, NAMESPACE, World
from wavekv_operator import names, tls
from wavekv_operator.sidecar_client import Address
from wavekv_operator.spec import Manifest

MEMBERS_MAX = 5
END = b"-----END CERTIFICATE-----\n"
"""Of the first certificate of a bundle, which is the authority that signs."""

ordinals = st.integers(0, MEMBERS_MAX - 1)
steps = st.one_of(
    st.tuples(st.just("scale"), st.integers(1, MEMBERS_MAX)),
    st.tuples(st.just("cover"), ordinals),
    st.tuples(st.just("uncover"), ordinals),
    st.tuples(st.just("silence"), ordinals),
    st.tuples(st.just("answer"), ordinals),
    st.tuples(st.just("restart"), ordinals),
    st.tuples(st.just("replace volume"), ordinals),
    st.tuples(st.just("heal"), ordinals),
    st.tuples(st.just("unheal"), ordinals),
    st.tuples(st.just("lose membership"), st.just(0)),
    st.tuples(st.just("lose authority"), st.just(0)),
    st.tuples(st.just("delete and make again"), st.integers(1, MEMBERS_MAX)),
    st.tuples(st.just("wait"), st.integers(1, 100)),
)


class Watched(World):
    """A world that checks what the operator writes and says."""

    def __init__(self, replicas: int) -> None:
        self.epochs: list[int] = []
        super().__init__(replicas=replicas)

    def _write(self, manifest: Manifest, live: Manifest | None) -> Manifest:
        name = manifest["metadata"]["name"]
        if name == names.membership(CLUSTER):
            self._check_document(json.loads(manifest["data"][names.MEMBERSHIP_KEY]))
        if manifest["kind"] == "StatefulSet":
            self._check_size(manifest["spec"]["replicas"])
        return super()._write(manifest, live)

    async def publish(
        self, cluster_id: str, identity: tls.Data, address: Address, document: Mapping[str, Any], *, override: bool
    ) -> None:
        assert document == self._document(), "only what is written down is published"
        assert not override, "nobody asked for that"
        await super().publish(cluster_id, identity, address, document, override=override)

    def _document(self) -> dict[str, Any]:
        found = self.view.get("ConfigMap", (NAMESPACE, names.membership(CLUSTER)))
        return json.loads(found["data"][names.MEMBERSHIP_KEY]) if found else {"epoch": 0, "members": []}

    def _check_document(self, new: Mapping[str, Any]) -> None:
        known = [m.volume.epoch or 0 for m in self.members.values() if m.reachable and m.volume.epoch is not None]
        old = self._document()
        assert is_signed(new, self.bundle)
        if {**new, "signature": ""} == {**old, "signature": ""}:
            assert not is_signed(old, self.bundle.split(END)[0] + END), "signed anew by another authority alone"
            return
        assert new["epoch"] > old["epoch"], "an epoch is issued once"
        assert not old["epoch"] or new["epoch"] > max(known, default=0), "members would refuse an older epoch"
        assert set(new["admitted"]) == set(new["members"])
        assert all(1 <= admitted <= new["epoch"] for admitted in new["admitted"].values())
        if not old["epoch"] or new["epoch"] != old["epoch"] + 1:
            return  # lost or taken over: who belongs comes from the members
        for name in set(old["members"]) - set(new["members"]):
            leaving = self.members[name]
            others = set(new["members"])
            assert leaving.volume.draining, f"{name} left without a drain"
            assert not leaving.healing, f"{name} left before it had healed"
            assert others <= leaving.covered_by, f"{name} left while {others - leaving.covered_by} lacked its writes"
            assert all(self.members[other].reachable for other in others)

    def _check_size(self, replicas: int) -> None:
        ordinals_in = [names.ordinal(CLUSTER, name) or 0 for name in self._document()["members"]]
        assert replicas > max(ordinals_in), "the pod of a member would go"

    # ---- steps -------------------------------------------------------------------------------------------------

    def do(self, what: str, number: int) -> None:
        name = names.member(CLUSTER, number)
        member = self.members.get(name)
        match what:
            case "scale":
                self.change_spec(replicas=number)
            case "lose membership":
                self._drop("ConfigMap", names.membership(CLUSTER))
            case "lose authority":
                self._drop("Secret", names.ca_secret(CLUSTER))
            case "delete and make again":
                self.delete_cluster()
                self.create_cluster(replicas=number)
            case "wait":
                self.pass_time(seconds=number)
            case _ if member is not None:
                self._to_member(what, member.name)

    def _to_member(self, what: str, name: str) -> None:
        member = self.members[name]
        match what:
            case "cover":
                member.covered_by = set(self.members)
            case "uncover":
                member.covered_by = set()
            case "silence" | "answer":
                member.reachable = what == "answer"
            case "heal" | "unheal":
                member.healing = what == "unheal"
            case "restart":
                self.restart(name)
            case "replace volume":
                self.volumes.pop(name)
                self.restart(name)

    def _drop(self, kind: str, name: str) -> None:
        found = self.view.get(kind, (NAMESPACE, name))
        if found is not None:
            self.view.drop(kind, found)


async def play(replicas: int, script: list[tuple[str, int]]) -> None:
    world = Watched(replicas)
    await world.one_pass()
    for what, number in script:
        world.do(what, number)
        await world.one_pass()
    for _ in range(2 * MEMBERS_MAX):
        for member in world.members.values():
            member.reachable, member.healing = True, False
        world.cover_all()
        await world.settle()
    wanted = world.resource["spec"]["replicas"]
    assert world.size == wanted
    assert world._document()["members"] == [names.member(CLUSTER, ordinal) for ordinal in range(wanted)]
    assert world.condition("Ready") == ("True", "AllMembersReady")
    assert world.condition("Progressing") == ("False", "Settled")


@given(replicas=st.integers(1, 4), script=st.lists(steps, max_size=14))
@example(replicas=3, script=[("delete and make again", 2), ("scale", 1)])  # two epochs of one number
@example(replicas=1, script=[("silence", 0), ("scale", 2), ("delete and make again", 2)])  # only one of them names both
@example(replicas=1, script=[("silence", 0), ("scale", 2), ("delete and make again", 3)])  # the newest agrees
@settings(max_examples=80)
def test_any_story_ends_well_and_no_step_of_it_loses_anything(replicas: int, script: list[tuple[str, int]]) -> None:
    asyncio.run(play(replicas, script))
