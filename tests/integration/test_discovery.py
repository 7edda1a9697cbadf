"""Members that find each other by a name alone, as pods behind a headless service do: one port, an address each."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.member_process import ROOT, Cluster, MemberProcess, eventually, free_ports
from tests.integration.resolving import RECORDS
from tests.pki import Authority


class Found(Cluster):
    """Three members, none started, that are told a name; `records` says what it resolves to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(3, folder)
        self.file = folder / "records"
        (port,) = free_ports(1)
        for index, member in enumerate(self.members):
            member.peers, member.module, member.peer = {}, "tests.integration.resolving", port
            member.environment = {"PYTHONPATH": f"{ROOT / 'sidecar'}:{ROOT}", RECORDS: str(self.file)}
            listen = f"{address(index)}:{port}"
            member.extra_args = ("--discover-dns", f"members.example:{port}", "--peer-listen", listen)

    def records(self, *indexes: int) -> None:
        """Let the name resolve to the addresses of these members."""
        self.file.write_text("\n".join(map(address, indexes)))


def address(index: int) -> str:
    return f"127.0.0.{11 + index}"


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Found]:
    with Found(tmp_path) as cluster:
        yield cluster


def peers(member: MemberProcess) -> list[str]:
    return sorted(peer["name"] for peer in member.status()["peers"])


def wait_peers(member: MemberProcess, names: Sequence[str]) -> None:
    eventually(lambda: peers(member) == sorted(names), 30, f"the peers of {member.name} are {names}")


def test_members_find_each_other_by_a_name_and_know_that_there_may_be_more(found: Found) -> None:
    found.records(0, 1)
    for member in found.members[:2]:
        member.start()
    for member, other in ((found[0], "m1"), (found[1], "m0")):
        member.wait_ready()
        wait_peers(member, [other])
    found[0].put("a", b"1")
    found[1].wait_value("a", b"1")
    found.records(0, 1, 2)
    found[2].start().wait_ready()
    for member, others in ((found[0], ["m1", "m2"]), (found[1], ["m0", "m2"]), (found[2], ["m0", "m1"])):
        wait_peers(member, others)
    found[2].put("b", b"2")
    found.wait_everywhere("a", b"1")
    found.wait_everywhere("b", b"2")
    status = found[0].status()
    assert status["membership"]["members"] == ["m0", "m1", "m2"]
    assert status["membership"]["complete"] is False
    assert status["discovery"]["addresses"] == 3
    assert not status["healing"]
    found[1].kill()
    found[1].start().wait_ready()
    found[1].put("c", b"3")
    found[0].wait_value("c", b"3")


def test_the_first_of_a_new_cluster_serves_alone_and_its_own_address_is_no_peer(found: Found) -> None:
    found.records(0)
    alone = found[0].start().wait_ready()
    alone.put("a", b"1")
    wait_peers(alone, [])
    assert alone.status()["membership"]["members"] == ["m0"]


def test_a_name_that_does_not_resolve_is_told_and_the_member_serves_and_finds_peers_later(found: Found) -> None:
    first = found[0].start().wait_ready()
    first.put("a", b"1")
    assert first.status()["discovery"]["error"] == "members.example: Name or service not known"
    assert first.log.count("members.example does not resolve") == 1
    found.records(0, 1)
    found[1].start().wait_ready().wait_value("a", b"1")
    wait_peers(first, ["m1"])
    assert "Traceback" not in first.log


@pytest.mark.parametrize("host", ["members.example", "elsewhere.example"])
def test_the_certificate_has_to_carry_the_name_and_not_the_address(found: Found, tmp_path: Path, host: str) -> None:
    authority = Authority(tmp_path / "pki")
    for member in found.members[:2]:
        member.peer_flags = authority.issue(member.name, member.cluster_id, dns=(host,), addresses=()).flags()
    found.records(0, 1)
    for member in found.members[:2]:
        member.start()
    for member in found.members[:2]:
        member.wait_ready()
    if host == "members.example":
        wait_peers(found[0], ["m1"])
        found[0].put("a", b"1")
        found[1].wait_value("a", b"1")
    else:
        asked = eventually(lambda: [peer["last_error"] for peer in found[0].status()["peers"]], 20, "peers are asked")
        assert all("certificate" in error.lower() for error in asked), asked
