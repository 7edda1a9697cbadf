"""The authority and the operator's certificate: what is kept, what is issued anew and when."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from wavekv_operator import names
from wavekv_operator.tls import Lives, Secrets, authority, decode, encode, secrets

CLUSTER_ID = "11111111-2222-4333-8444-555555555555"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
LIVES = Lives(leaf=timedelta(days=90), authority=timedelta(days=3650))
NOTHING = Secrets({}, {})


def issue(held: Secrets = NOTHING, now: datetime = NOW) -> Secrets:
    return secrets(CLUSTER_ID, held, now, LIVES)


def cert(data: object) -> x509.Certificate:
    assert isinstance(data, dict)
    return x509.load_pem_x509_certificate(data[names.CERT_KEY])


def test_the_operator_has_its_uri_and_no_host_name() -> None:
    sans = cert(issue().operator).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [item.value for item in sans] == [f"wavekv://{CLUSTER_ID}/operator"]


def test_leaves_may_serve_and_ask_and_sign_nothing() -> None:
    leaf = cert(issue().operator)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - NOW == timedelta(days=90)


def test_the_authoritys_key_is_in_its_own_secret_alone() -> None:
    made = issue()
    key = made.ca[names.CA_PRIVATE_KEY_KEY]
    assert key not in made.operator.values()
    assert b"PRIVATE" not in made.bundle


def test_good_certificates_are_kept_byte_for_byte() -> None:
    made = issue()
    assert issue(made, NOW + timedelta(days=59)) == made


def test_a_leaf_is_issued_anew_after_two_thirds_and_the_authority_stays() -> None:
    made = issue()
    later = issue(made, NOW + timedelta(days=60, minutes=5))
    assert cert(later.operator) != cert(made.operator)
    assert later.ca == made.ca
    assert cert(later.operator).not_valid_after_utc == NOW + timedelta(days=150, minutes=5)


@pytest.mark.parametrize("key", [names.CERT_KEY, names.PRIVATE_KEY_KEY])
@pytest.mark.parametrize("damage", [None, b"", b"-----BEGIN NONSENSE-----"])
def test_a_damaged_leaf_is_replaced(key: str, damage: bytes | None) -> None:
    made = issue()
    broken = {k: v for k, v in made.operator.items() if k != key} | ({} if damage is None else {key: damage})
    mended = issue(Secrets(made.ca, broken, made.bundle))
    cert(mended.operator).verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca[names.CA_KEY]))


def test_a_key_that_does_not_fit_its_certificate_is_replaced() -> None:
    made, other = issue(), issue()
    mixed = {**made.operator, names.PRIVATE_KEY_KEY: other.operator[names.PRIVATE_KEY_KEY]}
    mended = issue(Secrets(made.ca, mixed, made.bundle))
    assert mended.operator[names.CERT_KEY] != made.operator[names.CERT_KEY]


def test_a_lost_authority_is_replaced_and_the_old_one_stays_trusted() -> None:
    made = issue()
    renewed = issue(Secrets({}, made.operator, made.bundle))
    trusted = x509.load_pem_x509_certificates(renewed.bundle)
    assert x509.load_pem_x509_certificate(made.ca[names.CA_KEY]) in trusted
    cert(renewed.operator).verify_directly_issued_by(trusted[0])


def test_an_authority_that_only_the_config_map_names_is_not_trusted_when_ours_is_lost() -> None:
    stranger = issue()
    made = issue()
    renewed = issue(Secrets({}, made.operator, stranger.bundle))
    theirs = x509.load_pem_x509_certificate(stranger.ca[names.CA_KEY])
    assert theirs not in x509.load_pem_x509_certificates(renewed.bundle)


def test_an_authority_is_followed_in_steps_and_every_leaf_is_trusted_at_each() -> None:
    made = issue()
    aged = NOW + LIVES.authority * 2 / 3
    announced = issue(made, aged)
    assert len(x509.load_pem_x509_certificates(announced.bundle)) == 2
    old = x509.load_pem_x509_certificate(made.ca[names.CA_KEY])
    cert(announced.operator).verify_directly_issued_by(old)
    assert authority(announced).certificate == old

    early = issue(announced, aged + timedelta(hours=23))
    assert early.ca == announced.ca

    signing = issue(announced, aged + timedelta(hours=25))
    trusted = x509.load_pem_x509_certificates(signing.bundle)
    assert old in trusted
    assert authority(signing).certificate == trusted[0]
    cert(signing.operator).verify_directly_issued_by(trusted[0])
    # Whoever still has the bundle from before already trusts the new leaf.
    assert trusted[0] in x509.load_pem_x509_certificates(announced.bundle)


def test_an_authority_that_members_were_not_given_signs_nothing() -> None:
    made = issue()
    aged = NOW + LIVES.authority * 2 / 3
    announced = issue(made, aged)
    withheld = Secrets(announced.ca, announced.operator, made.bundle)
    assert issue(withheld, aged + timedelta(days=30)).ca == announced.ca
    assert issue(announced, aged + timedelta(days=30)).ca != announced.ca


def test_secrets_survive_base64_and_what_is_none_counts_as_absent() -> None:
    made = issue()
    assert decode(encode(made.operator)) == made.operator
    assert decode({"tls.crt": "not base64!"}) == {}
    assert decode(None) == {}
