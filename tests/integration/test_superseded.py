"""Two processes under one name: the older one ends its service and stays, the newer one serves (R8)."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.member_process import Cluster, MemberProcess, eventually, fetch, free_ports
from tests.pki import Authority


def with_certificates(cluster: Cluster, authority: Authority) -> None:
    for member in cluster.members:
        member.peer_flags = authority.issue(member.name, member.cluster_id).flags()
    for member in cluster.members:
        member.peers = {other.name: other.peer_url for other in cluster.members if other is not member}


@pytest.fixture(params=["plain", "certificates"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, MemberProcess]]:
    """A cluster of two, and a copy of the first one's directory that is to run under the same name.

    With certificates the older process has to be shown what the newer one signed: a peer's word is not enough.
    """
    with Cluster(2, tmp_path) as cluster:
        if request.param == "certificates":
            with_certificates(cluster, Authority(tmp_path / "pki"))
        cluster.start()
        cluster[0].put("before", b"1")
        cluster.wait_everywhere("before", b"1")
        assert cluster[0].terminate() == 0
        twin = twin_of(cluster[0], tmp_path / "twin")
        try:
            yield cluster, twin
        finally:
            twin.kill()


def twin_of(member: MemberProcess, folder: Path) -> MemberProcess:
    """Return a member that is not started, of the same name and peers, on a copy of the directory."""
    shutil.copytree(member.data_dir, folder)
    ports = dict(zip(("http", "resp", "peer", "metrics"), free_ports(4), strict=True))
    return replace(member, data_dir=folder, process=None, **ports)


def refused(member: MemberProcess) -> bool:
    """Tell whether reads and writes are refused as superseded, and the probes say so of a process that lives."""
    answers = [member.request("GET", "/v1/kv/before"), member.request("PUT", "/v1/kv/x", b"1")]
    if any(answer.status != 503 for answer in answers):
        return False
    answers += [member.request("GET", "/v1/kv"), member.request("GET", "/v1/watch")]
    ready = fetch(member.metrics, "GET", "/readyz")
    probe = (ready.status, ready.body.partition(b":")[0])
    return {answer.json()["code"] for answer in answers} == {"superseded"} and probe == (503, b"superseded")


def test_of_two_copies_the_older_process_ends_its_service_and_the_newer_converges(
    pair: tuple[Cluster, MemberProcess],
) -> None:
    cluster, newer = pair
    older, third = cluster[0], cluster[1]
    older.start().wait_ready()
    newer.start().wait_ready()
    eventually(lambda: refused(older), 20, "the older process is superseded")
    for probe in ("/livez", "/startupz"):
        assert fetch(older.metrics, "GET", probe).status == 200
    held = older.status()["store"]
    newest = newer.status()["process"]["inc"]
    assert older.status()["process"]["superseded_by"] == newest
    assert "wavekv_superseded 1" in older.scrape()
    assert "two processes run under one name" in older.log
    newer.put("after", b"2")
    third.wait_value("after", b"2")
    third.put("back", b"3")
    newer.wait_value("back", b"3")
    assert newer.status()["process"]["superseded_by"] is None
    assert older.status()["store"] == held, "nothing reaches the older one any more"
    assert older.terminate() == 0
    older.start().wait_started()
    assert older.status()["process"]["inc"] > newest, "a start that somebody asked for is the newest again"
    eventually(lambda: refused(newer), 20, "the one that was newer is superseded")


def test_members_that_were_given_one_name_do_not_merge_and_the_older_one_ends(tmp_path: Path) -> None:
    with Cluster(2, tmp_path) as cluster:
        older, newer = cluster.members
        newer.name = "m0"
        older.peers, newer.peers = {"other": newer.peer_url}, {"other": older.peer_url}
        older.start().wait_ready()
        older.put("before", b"1")
        newer.start().wait_ready()
        eventually(lambda: refused(older), 20, "the older process is superseded")
        assert newer.get("before") is None


def test_a_restart_and_a_peer_that_is_its_own_address_supersede_nobody(tmp_path: Path) -> None:
    with Cluster(2, tmp_path) as cluster:
        cluster[0].peers = {"m1": cluster[1].peer_url, "mirror": cluster[0].peer_url}
        cluster.start()
        cluster[0].kill()
        cluster[0].start().wait_ready()
        cluster[0].put("x", b"1")
        cluster[1].wait_value("x", b"1")
        mirror = eventually(lambda: cluster[0].status()["peers"][1]["last_error"], 20, "the mirror was asked")
        assert "leads back here" in mirror
        assert cluster[0].status()["ready"]
