"""Whom a certificate names, and which messages it may come with: a member speaks for itself alone."""

from typing import Any

import pytest

from wavekv.core.messages import Envelope
from wavekv.errors import ForeignCluster, WaveKVError, WrongName, WrongRole
from wavekv.peers.identity import Names, identify

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
ANOTHER = "00000000-0000-4000-8000-00000000dead"
OURS = Names(CLUSTER, crates=["c0"])


def certificate(*uris: str, dns: tuple[str, ...] = (), common_name: str = "") -> dict[str, Any]:
    names = [("URI", uri) for uri in uris] + [("DNS", host) for host in dns]
    return {"subject": ((("commonName", common_name),),) if common_name else (), "subjectAltName": tuple(names)}


def member(name: str, cluster: str = CLUSTER) -> dict[str, Any]:
    return certificate(f"wavekv://{cluster}/member/{name}", dns=("localhost",))


def message(name: str | None) -> Envelope:
    return Envelope(sender_id=7, name=name, inc=None if name is None else 1)


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        (member("m1"), "m1"),
        (certificate(dns=("m1",)), "m1"),
        (certificate(dns=("m1.example.org",)), "m1"),
        (certificate(dns=("m1.example.org",)), "m1.example.org"),
        (certificate(dns=("localhost", "m1.demo-peers.shop.svc")), "m1"),
        (certificate(common_name="m1"), "m1"),
        (certificate("spiffe://example.org/m2", dns=("m1",)), "m1"),
    ],
)
def test_a_certificate_speaks_for_the_member_it_names(shown: dict[str, Any], name: str) -> None:
    assert OURS.check(OURS.shown(shown, "member"), message(name)).name == name


FORGED: list[tuple[str, dict[str, Any] | None, type[WaveKVError]]] = [
    ("no certificate", None, WrongRole),
    ("an empty one", {}, WrongRole),
    ("another member's", member("m2"), WrongName),
    ("another cluster's", member("m1", ANOTHER), ForeignCluster),
    ("the one all members shared", certificate(f"wavekv://{CLUSTER}/member", dns=("m1",)), WrongRole),
    ("the operator's", certificate(f"wavekv://{CLUSTER}/operator", dns=("m1",)), WrongRole),
    ("two identities", certificate(f"wavekv://{CLUSTER}/member/m2", f"wavekv://{CLUSTER}/member/m1"), WrongRole),
    ("an identity and a fitting host", certificate(f"wavekv://{CLUSTER}/member/m2", dns=("m1",)), WrongName),
    ("an identity and a fitting common name", member("m2") | {"subject": ((("commonName", "m1"),),)}, WrongName),
    ("a role that is none", certificate(f"wavekv://{CLUSTER}/admin/m1"), WrongRole),
    ("an empty name", certificate(f"wavekv://{CLUSTER}/member/"), WrongRole),
    ("a longer path", certificate(f"wavekv://{CLUSTER}/member/m1/m2"), WrongRole),
    ("the operator with a name", certificate(f"wavekv://{CLUSTER}/operator/m1"), WrongRole),
    ("no cluster", certificate("wavekv:///member/m1"), ForeignCluster),
    ("a cluster in capitals", member("m1", CLUSTER.upper()), ForeignCluster),
    ("another scheme's identity", certificate(f"WAVEKV://{CLUSTER}/member/m1"), WrongName),
    ("a wildcard", certificate(dns=("*.example.org",)), WrongName),
    ("a wildcard label", certificate(dns=("m1*.example.org",)), WrongName),
    ("a wildcard common name", certificate(common_name="*"), WrongName),
    ("a name in capitals", certificate(dns=("M1",)), WrongName),
    ("a name in a later label", certificate(dns=("demo.m1.example.org",)), WrongName),
    ("a common name beside hosts", certificate(dns=("m2",), common_name="m1"), WrongName),
    ("an address alone", {"subjectAltName": (("IP Address", "127.0.0.1"),)}, WrongName),
]


@pytest.mark.parametrize(("shown", "error"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_a_certificate_that_does_not_name_m1_may_say_nothing_in_its_name(
    shown: dict[str, Any] | None, error: type[WaveKVError]
) -> None:
    with pytest.raises(error):
        OURS.check(OURS.shown(shown, "member"), message("m1"))


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        (None, WrongRole),
        (member("m1"), WrongRole),
        (certificate(dns=("operator",), common_name="operator"), WrongRole),
        (certificate(f"wavekv://{CLUSTER}/member/operator"), WrongRole),
        (certificate(f"wavekv://{ANOTHER}/operator"), ForeignCluster),
        (certificate(f"wavekv://{CLUSTER}/operator", f"wavekv://{CLUSTER}/operator"), WrongRole),
    ],
)
def test_only_the_identity_of_an_operator_is_one(shown: dict[str, Any] | None, error: type[WaveKVError]) -> None:
    assert identify(certificate(f"wavekv://{CLUSTER}/operator"), CLUSTER).role == "operator"
    with pytest.raises(error):
        OURS.shown(shown, "operator")


def test_a_message_without_a_name_comes_from_a_configured_node_of_the_original_system_alone() -> None:
    said = OURS.check(OURS.shown(certificate(dns=("c0.example.org",)), "member"), message(None))
    assert (said.name, said.crate) == (None, "c0")
    for other in (member("m1"), certificate(dns=("c1",)), certificate(common_name="")):
        with pytest.raises(WrongName, match="--crate-peer"):
            OURS.check(OURS.shown(other, "member"), message(None))
    with pytest.raises(WrongName):
        Names(CLUSTER).check(OURS.shown(member("c0"), "member"), message(None))


def test_a_member_without_a_cluster_takes_names_and_asks_for_no_cluster() -> None:
    anywhere = Names(None)
    assert anywhere.shown(member("m1", ANOTHER), "member").speaks_for("m1")


def test_a_refusal_shows_a_few_names_cut_to_a_length() -> None:
    many = OURS.shown(certificate(dns=tuple(f"{index}{'x' * 200}" for index in range(50))), "member")
    with pytest.raises(WrongName) as refused:
        OURS.check(many, message("m1\n" + "y" * 5000))
    assert len(refused.value.detail) < 500
    assert "\n" not in refused.value.detail
