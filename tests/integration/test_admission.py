"""Membership under an operator: who is let in, left out and let in again, and what its volume has to do first (R9)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.governed import GovernedCluster
from tests.integration.member_process import MemberProcess, eventually, fetch

BEYOND_THE_JOIN_WAIT = 4.0
"""Seconds after which a plain restart would have begun to serve."""


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[GovernedCluster]:
    """Two running members of three, in epoch 2."""
    with GovernedCluster(2, tmp_path, spare=1) as cluster:
        cluster.start_members(cluster[0], cluster[1])
        cluster.govern(cluster.document(2, ["11", "12"]))
        yield cluster


def refusal(member: MemberProcess) -> tuple[int, str]:
    answer = member.request("PUT", "/v1/kv/refused", b"1")
    return answer.status, answer.json().get("code", "") if answer.status >= 400 else ""


def readiness(member: MemberProcess) -> tuple[int, str]:
    answer = fetch(member.metrics, "GET", "/readyz")
    return answer.status, answer.body.decode().split(":")[0].strip()


def standing(member: MemberProcess) -> tuple[int, int | None, int | None]:
    membership = member.status()["membership"]
    return membership["epoch"], membership["admitted_epoch"], membership["healed_epoch"]


def wait_not_healed(member: MemberProcess) -> None:
    """Wait until the member has run for longer than a plain restart waits, and is still not ready."""
    eventually(lambda: member.status()["uptime_seconds"] > BEYOND_THE_JOIN_WAIT, 20, "it ran for a while")
    assert readiness(member) == (503, "joining")
    assert refusal(member) == (503, "starting")


def test_the_first_members_of_a_cluster_serve_at_once_and_keep_that_they_need_not_heal(
    governed: GovernedCluster,
) -> None:
    assert standing(governed[0]) == (2, 1, 1)
    governed[0].put("x", b"1")
    governed[1].wait_value("x", b"1")
    governed[0].kill()
    governed[1].kill()
    governed[0].start().wait_ready()
    assert standing(governed[0]) == (2, 1, 1), "a plain restart is ready although nobody answers"
    assert "WARNING" not in governed[0].log
    assert "ERROR" not in governed[0].log


def test_a_member_outside_the_epoch_waits_to_be_admitted_and_then_heals(governed: GovernedCluster) -> None:
    governed[0].put("x", b"1")
    late = governed[2].start().wait_started()
    assert readiness(late) == (503, "removed")
    assert refusal(late) == (503, "removed")
    told = governed.ask(late, "GET", "/v1/admin/status").json()
    assert (told["node_id"], told["phase"], told["membership"]["included"]) == (
        late.status()["node_id"],
        "removed",
        False,
    )
    assert told["membership"]["members"] == ["11", "12"]
    governed.govern(governed.document(3, ["11", "12", "13"], admitted={"13": 3}))
    late.wait_ready()
    assert late.get("x") == b"1", "ready means healed"
    assert standing(late) == (3, 3, 3)
    late.put("y", b"2")
    governed[1].wait_value("y", b"2")


def test_an_emptied_volume_heals_before_it_is_ready(governed: GovernedCluster) -> None:
    governed[0].put("x", b"1")
    governed[1].wait_value("x", b"1")
    governed[1].kill()
    governed[1].data_dir = governed[1].data_dir.with_name("emptied")
    governed[0].pause()
    empty = governed[1].start().wait_started()
    wait_not_healed(empty)
    governed[0].resume()
    empty.wait_ready()
    assert empty.get("x") == b"1"
    assert standing(empty) == (2, 1, 1)


def test_a_removed_member_is_cut_off_and_heals_in_the_same_process_when_it_is_admitted_again(
    governed: GovernedCluster,
) -> None:
    keeper, removed = governed[0], governed[1]
    removed.put("deleted", b"old")
    removed.put("kept", b"1")
    keeper.wait_value("deleted", b"old")
    governed.govern(governed.document(3, ["11"]))
    assert readiness(removed) == (503, "removed")
    assert refusal(removed) == (503, "removed")
    assert removed.get("kept") == b"1", "reads go on"
    keeper.delete("deleted")
    keeper.put("since", b"2")
    origin = removed.status()["process"]["origin"]
    keeper.pause()
    again = governed.document(4, ["11", "12"], admitted={"12": 4})
    assert governed.push(removed, again).status == 200
    wait_not_healed(removed)
    assert removed.status()["healing"]
    keeper.resume()
    assert governed.push(keeper, again).status == 200
    removed.wait_ready()
    assert (removed.get("deleted"), removed.get("since")) == (None, b"2")
    assert standing(removed) == (4, 4, 4)
    removed.put("more", b"3")
    keeper.wait_value("more", b"3")
    assert removed.status()["process"]["origin"] != origin
    assert keeper.get("deleted") is None


def test_a_stale_volume_that_is_admitted_again_heals_before_it_is_ready(governed: GovernedCluster) -> None:
    keeper, stale = governed[0], governed[1]
    stale.put("deleted", b"old")
    keeper.wait_value("deleted", b"old")
    stale.kill()
    governed.govern(governed.document(3, ["11"]))
    keeper.delete("deleted")
    governed.govern(governed.document(4, ["11", "12"], admitted={"12": 4}))
    keeper.pause()
    stale.start().wait_started()
    wait_not_healed(stale)
    stale.kill()
    stale.start().wait_started()
    wait_not_healed(stale)
    keeper.resume()
    stale.wait_ready()
    assert stale.get("deleted") is None
    stale.kill()
    keeper.pause()
    stale.start().wait_ready()
    assert standing(stale) == (4, 4, 4), "it is not asked to heal again"
    keeper.resume()
    assert keeper.get("deleted") is None


def test_a_removed_member_learns_from_a_peer_that_it_was_admitted_again(governed: GovernedCluster) -> None:
    governed.govern(governed.document(3, ["11"]))
    governed.wait_phase(governed[1], "removed")
    again = governed.document(4, ["11", "12"], admitted={"12": 4})
    assert governed.push(governed[0], again).status == 200
    governed[1].wait_ready()
    assert standing(governed[1]) == (4, 4, 4)
    assert governed.push(governed[1], again).status == 200


def test_a_boot_document_older_than_what_the_directory_keeps_is_ignored(governed: GovernedCluster) -> None:
    governed.govern(governed.document(3, ["11", "12"]))
    governed[1].kill()
    governed.publish(governed.document(2, ["12"]))
    governed[1].start().wait_ready()
    assert governed[1].status()["membership"]["members"] == ["11", "12"]
    assert governed[1].status()["peers"][0]["name"] == "11"


def test_a_pushed_document_says_where_the_members_are(governed: GovernedCluster) -> None:
    elsewhere = governed.document(3, ["11", "12"], peer_url=f"https://127.0.1.{{name}}:{governed.port}")
    assert governed.push(governed[0], elsewhere).status == 200
    assert governed[0].status()["peers"][0]["url"] == f"https://127.0.1.12:{governed.port}"
    governed[0].kill()
    governed[0].start().wait_started()
    assert governed[0].status()["peers"][0]["url"] == f"https://127.0.1.12:{governed.port}"
