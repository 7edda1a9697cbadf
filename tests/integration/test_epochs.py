"""Who belongs is the operator's word alone: real members, and a hostile one with a certificate of its own."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.governed import GovernedCluster
from tests.integration.member_process import Answer, MemberProcess, eventually, fetch
from tests.pki import Leaf
from wavekv.core.codec.envelope import pack
from wavekv.core.membership import EPOCH_JUMP_MAX, EPOCH_MAX
from wavekv.core.messages import Envelope

NAMES = ["11", "12"]


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[GovernedCluster]:
    """Two members in epoch 2."""
    with GovernedCluster(2, tmp_path) as cluster:
        cluster.start()
        cluster.govern(cluster.document(2, NAMES))
        yield cluster


def epoch_of(member: MemberProcess) -> int:
    number: int = member.status()["membership"]["epoch"]
    return number


def says(cluster: GovernedCluster, leaf: Leaf, target: MemberProcess, message: Envelope, verb: str) -> Answer:
    return cluster.ask(target, "POST", f"/wavekv/{verb}/persistent", pack(message), leaf=leaf)


def hostile(cluster: GovernedCluster, **fields: Any) -> Envelope:
    """Return a message of member 12 that is none of its process."""
    usual = {"sender_id": 7, "name": "12", "inc": 1, "cluster_id": cluster.cluster_id}
    return Envelope(**(usual | fields))


@pytest.mark.parametrize("number", [3, 2 + EPOCH_JUMP_MAX, EPOCH_MAX, 2**64 - 1])
def test_a_member_cannot_move_the_epoch_by_any_message(governed: GovernedCluster, number: int) -> None:
    leaf, first = governed.issue("12"), governed[0]
    governed[1].kill()
    unsigned = {name: value for name, value in governed.document(number, ["12"]).items() if name != "signature"}
    genuine = governed.document(number, ["12"])
    for document in (None, json.dumps(unsigned), json.dumps(genuine | {"members": ["12", "13"], "admitted": None})):
        told = None if document is None else document.encode()
        message = hostile(governed, inc=2**40, epoch=number, members=("12",), epoch_doc=told)
        for verb in ("sync2", "push"):
            says(governed, leaf, first, message, verb)
    status = first.status()["membership"]
    assert (status["epoch"], status["members"], status["included"]) == (2, NAMES, True)
    assert first.put("still", b"serving").status == 201


def test_a_member_that_missed_an_epoch_learns_it_from_another_by_its_signature(governed: GovernedCluster) -> None:
    first, second = governed.members
    answer = governed.push(first, governed.document(3, NAMES))
    assert answer.status == 200
    eventually(lambda: epoch_of(second) == 3, 20, "the other learns it without the operator")
    second.kill()
    second.start().wait_ready()
    assert epoch_of(second) == 3, "and has kept it"
    told = governed.ask(second, "GET", "/v1/admin/membership").json()
    assert told == {"document": governed.document(3, NAMES) | {"signature": told["document"]["signature"]}}


def test_a_mounted_document_is_followed_while_the_member_runs(governed: GovernedCluster) -> None:
    governed.publish(governed.document(4, NAMES))
    for member in governed.members:
        eventually(lambda told=member: epoch_of(told) == 4, 20, "the file is read again")


def test_without_certificates_epochs_come_from_the_file_alone(tmp_path: Path) -> None:
    with GovernedCluster(1, tmp_path) as cluster:
        member = cluster[0]
        member.peer_flags = ("--insecure-peers",)
        member.extra_args = ("--membership", str(cluster.file), "--peer-listen", f"127.0.0.1:{member.peer}")
        cluster.publish(cluster.document(1, ["11"], bootstrap=True, peer_url="http://127.0.0.{name}:1"))
        member.start().wait_ready()
        genuine = json.dumps(cluster.document(3, ["12"])).encode()
        message = hostile(cluster, epoch=3, members=("12",), epoch_doc=genuine)
        answer = plain(member, message)
        assert answer.status == 403
        assert epoch_of(member) == 1
        assert "--insecure-peers" in member.log
        cluster.publish(cluster.document(2, ["11"], peer_url="http://127.0.0.{name}:1"))
        eventually(lambda: epoch_of(member) == 2, 20, "the file is read again")


def plain(member: MemberProcess, message: Envelope) -> Answer:
    """Send a message without TLS."""
    return fetch(
        member.peer, "POST", "/wavekv/sync2/persistent", pack(message), {"Content-Type": "application/x-msgpack-gz"}
    )


def test_an_override_brings_back_a_cluster_whose_epoch_has_no_room_left(governed: GovernedCluster) -> None:
    first, second = governed.members
    first.put("x", b"1")
    second.wait_value("x", b"1")
    far = governed.document(EPOCH_MAX, NAMES)
    assert governed.push(first, far).json()["code"] == "epoch_jump"
    for member in governed.members:
        assert governed.push(member, far, override=True).status == 200
    back = governed.document(5, NAMES)
    assert governed.push(first, back).json()["code"] == "stale_epoch"
    for member in governed.members:
        assert governed.push(member, back, override=True).status == 200
    for member in governed.members:
        told = member.status()["membership"]["overridden"]
        assert (told["epoch"], told["from"]) == (5, EPOCH_MAX)
        assert "overrode epoch" in member.log
        member.wait_ready()
        assert member.get("x") == b"1"
    governed.govern(governed.document(6, NAMES))
    first.put("y", b"2")
    second.wait_value("y", b"2")
    second.kill()
    second.start().wait_ready()
    assert second.status()["membership"]["overridden"]["from"] == EPOCH_MAX


def test_a_message_is_refused_in_another_s_name_whatever_it_says(governed: GovernedCluster) -> None:
    leaf, first = governed.issue("12"), governed[0]
    for name in ("11", "13", None):
        for verb in ("sync2", "push"):
            answer = says(governed, leaf, first, replace(hostile(governed), name=name), verb)
            assert (answer.status, answer.json()["code"]) == (403, "wrong_name")
