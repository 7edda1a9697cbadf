"""Draining a member over its admin route: it refuses writes, and says when the others hold all that it has (R10)."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.governed import GovernedCluster
from tests.integration.member_process import MemberProcess, eventually, fetch

QUICK = 3.0
"""Seconds within which a drain of a quiet cluster has to be complete."""


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[GovernedCluster]:
    """Three running members in epoch 2."""
    with GovernedCluster(3, tmp_path) as cluster:
        cluster.start()
        cluster.govern(cluster.document(2, cluster.names))
        eventually(lambda: not any(m.status()["healing"] for m in cluster.members), 20, "nobody heals")
        yield cluster


def completed(governed: GovernedCluster, member: MemberProcess, deadline: float = QUICK) -> dict[str, Any]:
    def status() -> dict[str, Any] | None:
        told = governed.drain(member)
        return told if told["complete"] else None

    found: dict[str, Any] = eventually(status, deadline, "the drain is complete")
    return found


def test_a_drained_member_refuses_writes_reads_on_and_completes_with_fresh_reports(governed: GovernedCluster) -> None:
    leaving = governed[2]
    for index in range(50):
        leaving.put(f"k{index}", b"x" * 1000)
    governed.drain(leaving, "PUT")
    answer = leaving.request("PUT", "/v1/kv/late", b"1")
    assert (answer.status, answer.json()["code"]) == (503, "draining")
    probe = fetch(leaving.metrics, "GET", "/readyz")
    assert (probe.status, probe.body) == (503, b"draining\n")
    incs = {member.name: member.status()["process"]["inc"] for member in governed.members[:2]}
    assert completed(governed, leaving) == {
        "draining": True,
        "healing": False,
        "waiting_writes": 0,
        "covered_by": incs,
        "waiting_for": [],
        "complete": True,
    }
    status = leaving.status()
    assert (status["draining"], status["phase"], status["ready"]) == (True, "draining", False)
    assert governed.drain(leaving, "PUT")["complete"], "asked for again, it changes nothing"
    governed[0].put("after", b"1")
    leaving.wait_value("after", b"1")


def test_a_draining_member_asks_the_others_and_does_not_wait_for_their_turn(tmp_path: Path) -> None:
    with GovernedCluster(3, tmp_path) as slow:
        for member in slow.members:
            member.extra_args = (*member.extra_args, "--gossip-interval-ms", "600000")
        slow.start()
        slow.drain(slow[2], "PUT")
        completed(slow, slow[2])


def test_a_drain_completes_while_others_write(governed: GovernedCluster) -> None:
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            governed[0].put(f"busy{number % 500}", b"%d" % number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        governed.drain(governed[2], "PUT")
        completed(governed, governed[2], 15)
    finally:
        ended.set()
        writer.join(30)


def test_a_drain_survives_a_restart_and_ends_when_it_is_cancelled(governed: GovernedCluster) -> None:
    leaving = governed[2]
    governed.drain(leaving, "PUT")
    leaving.kill()
    leaving.start().wait_started()
    governed.wait_phase(leaving, "draining")
    assert leaving.request("PUT", "/v1/kv/late", b"1").json()["code"] == "draining"
    assert completed(governed, leaving, 10)["covered_by"].keys() == {"11", "12"}
    cancelled = governed.drain(leaving, "DELETE")
    assert (cancelled["draining"], cancelled["covered_by"], cancelled["complete"]) == (False, {}, False)
    leaving.wait_ready()
    leaving.put("again", b"1")
    assert not governed.drain(leaving, "DELETE")["draining"], "not draining is fine"
    leaving.kill()
    leaving.start().wait_ready()
    assert not leaving.status()["draining"]


def test_a_drain_waits_for_a_member_that_does_not_answer_and_names_it(governed: GovernedCluster) -> None:
    leaving = governed[2]
    governed[1].kill()
    leaving.put("last", b"1")
    governed.drain(leaving, "PUT")
    eventually(lambda: governed.drain(leaving)["waiting_for"] == ["12"], QUICK, "only 12 is missing")
    waiting = governed.drain(leaving)
    assert (list(waiting["covered_by"]), waiting["complete"]) == (["11"], False)
    governed[1].start().wait_ready()
    assert completed(governed, leaving, 15)["covered_by"]["12"] == governed[1].status()["process"]["inc"]


def test_a_drain_ends_with_the_epoch_that_removes_and_the_one_that_admits_again(governed: GovernedCluster) -> None:
    leaving = governed[2]
    leaving.put("kept", b"1")
    governed.drain(leaving, "PUT")
    completed(governed, leaving)
    governed.govern(governed.document(3, ["11", "12"]))
    governed.wait_phase(leaving, "removed")
    leaving.kill()
    governed.govern(governed.document(4, governed.names, admitted={"13": 4}))
    leaving.start().wait_ready()
    assert not leaving.status()["draining"]
    assert json.loads((leaving.data_dir / "MEMBERSHIP").read_text())["draining"] is None
    leaving.put("more", b"2")
    governed[0].wait_value("more", b"2")
