"""Certificates: what is kept, what is issued anew and when, and that a real TLS stack takes them."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from wavekv_operator import names
from wavekv_operator.tls import Certificates, Lives, certificates, decode, encode

CLUSTER_ID = "11111111-2222-4333-8444-555555555555"
HOSTS = ("*.demo-peers.shop.svc", "*.demo-peers.shop.svc.cluster.local")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
LIVES = Lives(leaf=timedelta(days=90), authority=timedelta(days=3650))
NOTHING = Certificates({}, {}, {})


def issue(held: Certificates = NOTHING, now: datetime = NOW, hosts: tuple[str, ...] = HOSTS) -> Certificates:
    return certificates(CLUSTER_ID, hosts, held, now, LIVES)


def cert(data: object) -> x509.Certificate:
    assert isinstance(data, dict)
    return x509.load_pem_x509_certificate(data[names.CERT_KEY])


def uris(certificate: x509.Certificate) -> list[str]:
    sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sans.get_values_for_type(x509.UniformResourceIdentifier)


def test_roles_are_uris_and_only_members_have_host_names() -> None:
    made = issue()
    member, operator = cert(made.member), cert(made.operator)
    assert uris(member) == [f"wavekv://{CLUSTER_ID}/member"]
    assert uris(operator) == [f"wavekv://{CLUSTER_ID}/operator"]
    sans = member.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sans.get_values_for_type(x509.DNSName) == [*HOSTS, "localhost"]
    assert (
        operator.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        == []
    )


def test_leaves_may_serve_and_ask_and_sign_nothing() -> None:
    leaf = cert(issue().member)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - NOW == timedelta(days=90)


def test_the_authoritys_key_is_in_no_secret_that_is_mounted() -> None:
    made = issue()
    key = made.ca[names.CA_PRIVATE_KEY_KEY]
    assert key not in made.member.values()
    assert key not in made.operator.values()


def test_good_certificates_are_kept_byte_for_byte() -> None:
    made = issue()
    assert issue(made, NOW + timedelta(days=59)) == made


def test_a_leaf_is_issued_anew_after_two_thirds_and_the_authority_stays() -> None:
    made = issue()
    later = issue(made, NOW + timedelta(days=60, minutes=5))
    assert cert(later.member) != cert(made.member)
    assert later.ca == made.ca
    assert cert(later.member).not_valid_after_utc == NOW + timedelta(days=150, minutes=5)


def test_other_hosts_mean_another_leaf_for_the_members_alone() -> None:
    made = issue()
    moved = issue(made, hosts=("*.demo-peers.shop.svc", "*.demo-peers.shop.svc.example"))
    assert cert(moved.member) != cert(made.member)
    assert moved.operator == made.operator


@pytest.mark.parametrize("key", [names.CERT_KEY, names.PRIVATE_KEY_KEY])
@pytest.mark.parametrize("damage", [None, b"", b"-----BEGIN NONSENSE-----"])
def test_a_damaged_leaf_is_replaced(key: str, damage: bytes | None) -> None:
    made = issue()
    broken = {k: v for k, v in made.member.items() if k != key} | ({} if damage is None else {key: damage})
    mended = issue(Certificates(made.ca, broken, made.operator))
    cert(mended.member).verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca[names.CA_KEY]))


def test_a_key_that_does_not_fit_its_certificate_is_replaced() -> None:
    made, other = issue(), issue()
    mixed = {**made.member, names.PRIVATE_KEY_KEY: other.member[names.PRIVATE_KEY_KEY]}
    assert issue(Certificates(made.ca, mixed, made.operator)).member[names.CERT_KEY] != made.member[names.CERT_KEY]


def test_a_lost_authority_is_replaced_and_the_old_one_stays_trusted() -> None:
    made = issue()
    renewed = issue(Certificates({}, made.member, made.operator))
    trusted = x509.load_pem_x509_certificates(renewed.member[names.CA_KEY])
    assert x509.load_pem_x509_certificate(made.ca[names.CA_KEY]) in trusted
    cert(renewed.member).verify_directly_issued_by(trusted[0])


def test_an_authority_is_followed_in_steps_and_every_leaf_is_trusted_at_each() -> None:
    made = issue()
    aged = NOW + LIVES.authority * 2 / 3
    announced = issue(made, aged)
    assert len(x509.load_pem_x509_certificates(announced.member[names.CA_KEY])) == 2
    old = x509.load_pem_x509_certificate(made.ca[names.CA_KEY])
    cert(announced.member).verify_directly_issued_by(old)

    early = issue(announced, aged + timedelta(hours=23))
    assert early.ca == announced.ca

    signing = issue(announced, aged + timedelta(hours=25))
    trusted = x509.load_pem_x509_certificates(signing.member[names.CA_KEY])
    assert old in trusted
    cert(signing.member).verify_directly_issued_by(trusted[0])
    # Whoever still has the bundle from before already trusts the new leaf.
    before = x509.load_pem_x509_certificates(announced.member[names.CA_KEY])
    assert trusted[0] in before


def test_secrets_survive_base64_and_what_is_none_counts_as_absent() -> None:
    made = issue()
    assert decode(encode(made.member)) == made.member
    assert decode({"tls.crt": "not base64!"}) == {}
    assert decode(None) == {}
