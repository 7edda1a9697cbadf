"""Members that make their own keys: enrolled by an operator, restarted without one, copied under another name."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from tests.integration.governed import GovernedCluster
from tests.integration.member_process import Answer, MemberProcess, eventually, free_ports

CERTIFICATE = "/v1/admin/certificate"


class Enrolling(GovernedCluster):
    """Members without certificates, each with a token of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(2, folder)
        self.tokens = {}
        for member in self.members:
            self.tokens[member.name] = folder / f"token-{member.name}"
            self.tokens[member.name].write_text(f"token-of-{member.name}")
            member.peer_flags = (
                "--tls-ca", str(self.authority.file), "--enrol-token", str(self.tokens[member.name]),
            )  # fmt: skip

    def told(self, member: MemberProcess) -> dict[str, str | None]:
        answer = self.ask(member, "GET", CERTIFICATE, verified=False)
        assert answer.status == 200, answer
        told: dict[str, str | None] = answer.json()
        return told

    def enrol(self, member: MemberProcess, name: str | None = None) -> Answer:
        """Sign a member's key as an operator does and hand the certificate in."""
        request = x509.load_pem_x509_csr(str(self.told(member)["request"]).encode())
        own = (f"127.0.0.{member.name}",)
        chain = self.authority.sign(request.public_key(), self.cluster_id, name or member.name, addresses=own)
        return self.ask(member, "PUT", CERTIFICATE, json.dumps({"certificate": chain}).encode(), verified=False)


@pytest.fixture
def enrolling(tmp_path: Path) -> Iterator[Enrolling]:
    with Enrolling(tmp_path) as cluster:
        for member in cluster.members:
            member.start()
        for member in cluster.members:
            member.wait_started()
        yield cluster


def test_members_are_enrolled_meet_and_restart_without_an_operator(enrolling: Enrolling) -> None:
    first, second = enrolling.members
    told = enrolling.told(first)
    assert (told["name"], told["token"], told["fingerprint"]) == (first.name, f"token-of-{first.name}", None)
    refused = enrolling.enrol(first, second.name)
    assert (refused.status, refused.json()["code"]) == (400, "bad_certificate")
    assert enrolling.enrol(first).status == 200
    eventually(lambda: "certificate" in str(first.status()["peers"][0]["last_error"]), 20, "the other is not enrolled")
    assert enrolling.enrol(second).status == 200
    for member in enrolling.members:
        member.wait_ready()
    first.put("x", b"1")
    second.wait_value("x", b"1")
    second.put("y", b"2")
    first.wait_value("y", b"2")
    fingerprint = enrolling.told(first)["fingerprint"]
    enrolling.tokens[first.name].unlink()
    first.kill()
    first.start().wait_ready()
    assert enrolling.told(first)["fingerprint"] == fingerprint
    first.put("z", b"3")
    second.wait_value("z", b"3")
    assert enrolling.ask(first, "GET", "/v1/admin/status").status == 200, "its certificate is verified now"
    renewed = enrolling.enrol(first).json()["fingerprint"]
    assert renewed != fingerprint
    assert enrolling.told(first)["fingerprint"] == renewed
    assert all(f"token-of-{member.name}" not in member.log for member in enrolling.members)


def test_only_the_operator_s_certificate_reads_the_token_or_hands_in_a_certificate(enrolling: Enrolling) -> None:
    first = enrolling[0]
    member, nobody = enrolling.issue(enrolling[1].name), enrolling.authority.issue("nobody", None)
    for leaf in (member, nobody):
        for method in ("GET", "PUT"):
            answer = enrolling.ask(first, method, CERTIFICATE, b"{}", leaf=leaf, verified=False)
            assert (answer.status, answer.json()["code"]) == (403, "wrong_role")
            assert b"token-of" not in answer.body


def test_a_volume_copied_under_another_name_cannot_speak_for_either(enrolling: Enrolling, tmp_path: Path) -> None:
    first, second = enrolling.members
    for member in enrolling.members:
        assert enrolling.enrol(member).status == 200
    for member in enrolling.members:
        member.wait_ready()
    first.put("x", b"1")
    second.wait_value("x", b"1")
    second.kill()
    shutil.copytree(second.data_dir, tmp_path / "copy")
    ports = dict(zip(("http", "resp", "metrics"), free_ports(3), strict=True))
    listen = ("--membership", str(enrolling.file), "--peer-listen", f"127.0.0.13:{enrolling.port}")
    copy = replace(second, name="13", data_dir=tmp_path / "copy", process=None, extra_args=listen, **ports)
    try:
        copy.start().wait_started()
        assert enrolling.told(copy)["fingerprint"] is None
        assert enrolling.told(copy)["name"] == "13"
        assert "the volume was copied" in copy.log
        key = (copy.data_dir / "tls" / "key.pem").read_bytes()
        assert key != (second.data_dir / "tls" / "key.pem").read_bytes()
    finally:
        copy.kill()


def test_a_member_with_a_certificate_of_its_flags_is_not_enrolled(tmp_path: Path) -> None:
    with GovernedCluster(1, tmp_path) as cluster:
        cluster.start()
        answer = cluster.ask(cluster[0], "GET", CERTIFICATE)
        assert (answer.status, answer.json()["code"]) == (409, "own_certificate")
