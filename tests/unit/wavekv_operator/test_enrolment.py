"""Who gets a member's certificate and what is in it; one row for each way to ask for what is not one's own."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.fakes.enrolled import request_pem
from wavekv_operator import enrolment, names, tls
from wavekv_operator.enrolment import Applicant, Application
from wavekv_operator.errors import EnrolmentRefused

CLUSTER_ID = "11111111-2222-4333-8444-555555555555"
OTHER_ID = "99999999-2222-4333-8444-555555555555"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LIFE = 90 * DAY
URI = f"wavekv://{CLUSTER_ID}/member/demo-0"
HOST = "demo-0.demo-peers.shop.svc"
POD = {
    "metadata": {"name": "demo-0", "namespace": "shop", "uid": "pod-uid-1"},
    "spec": {"serviceAccountName": "shop"},
}
WHO = enrolment.applicant(CLUSTER_ID, "demo", POD, "cluster.local")
KEY = ec.generate_private_key(ec.SECP256R1())


def signer() -> tls.Authority:
    lives = tls.Lives(LIFE, 3650 * DAY)
    return tls.authority(tls.secrets(CLUSTER_ID, tls.Secrets({}, {}), NOW, lives))


SIGNER = signer()


def give(request: str, who: Applicant = WHO) -> x509.Certificate:
    application = Application(who.name, who.cluster_id, request, "t")
    pem = enrolment.certificate(who, application, SIGNER, now=NOW, life=LIFE)
    return x509.load_pem_x509_certificate(pem.encode())


def names_in(certificate: x509.Certificate) -> list[str]:
    return [item.value for item in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


# ---- what is issued ----------------------------------------------------------------------------------------------


def test_a_certificate_names_its_member_and_its_two_hosts_and_nothing_else() -> None:
    made = give(request_pem(KEY, "demo-0", (URI,)))
    assert names_in(made) == [URI, HOST, f"{HOST}.cluster.local"]
    assert made.public_key() == KEY.public_key()
    assert made.not_valid_after_utc == NOW + LIFE
    made.verify_directly_issued_by(SIGNER.certificate)


@pytest.mark.parametrize(
    "request_text",
    [
        request_pem(KEY, "demo-0"),
        request_pem(KEY, "", (URI,)),
        request_pem(KEY, "demo-0", (URI,), (HOST, f"{HOST}.cluster.local")),
    ],
    ids=["common name", "uri", "all"],
)
def test_a_request_that_names_the_member_in_any_way_is_answered(request_text: str) -> None:
    assert names_in(give(request_text))[0] == URI


@pytest.mark.parametrize(
    ("request_text", "why"),
    [
        (request_pem(KEY, "demo-1"), "names another"),
        (request_pem(KEY, "demo-0", (f"wavekv://{CLUSTER_ID}/member/demo-1",)), "names another"),
        (request_pem(KEY, "demo-0", (URI, f"wavekv://{CLUSTER_ID}/operator")), "names another"),
        (request_pem(KEY, "demo-0", (f"wavekv://{CLUSTER_ID}/member",)), "names another"),
        (request_pem(KEY, "demo-0", (f"wavekv://{OTHER_ID}/member/demo-0",)), "names another"),
        (request_pem(KEY, "demo-0", (URI,), ("*.demo-peers.shop.svc",)), "names another"),
        (request_pem(KEY, "demo-0", (URI,), ("demo-1.demo-peers.shop.svc",)), "names another"),
        (request_pem(KEY, ""), "names another"),
        (request_pem(KEY, "demo-0", (URI,), damage=True), "not signed by its key|cannot be read"),
        (request_pem(ec.generate_private_key(ec.SECP384R1()), "demo-0", (URI,)), "P-256"),
        (request_pem(rsa.generate_private_key(65537, 2048), "demo-0", (URI,)), "P-256"),
        (request_pem(SIGNER.key, "demo-0", (URI,)), "the authority's"),
        ("", "cannot be read"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"),
    ],
)
def test_a_request_for_more_or_by_another_kind_of_key_is_refused(request_text: str, why: str) -> None:
    with pytest.raises(EnrolmentRefused, match=why) as refused:
        give(request_text)
    assert refused.value.member == "demo-0"


def test_a_key_that_signs_otherwise_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo-0")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    with pytest.raises(EnrolmentRefused, match="P-256"):
        give(request.public_bytes(Encoding.PEM).decode())


@pytest.mark.parametrize(
    ("known", "unknown"),
    [("06072a8648ce3d0201", "06072a8648ce3d0209"), ("06082a8648ce3d030107", "06082a8648ce3d030109")],
    ids=["kind of key", "curve"],
)
def test_a_key_of_a_kind_that_nobody_knows_is_refused(known: str, unknown: str) -> None:
    request = x509.load_pem_x509_csr(request_pem(KEY, "demo-0", (URI,)).encode()).public_bytes(Encoding.DER)
    strange = request.replace(bytes.fromhex(known), bytes.fromhex(unknown))
    assert strange != request
    body = base64.encodebytes(strange).decode()
    with pytest.raises(EnrolmentRefused, match="P-256"):
        give(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")


# ---- the token -----------------------------------------------------------------------------------------------------


def review(**changes: Any) -> dict[str, Any]:
    extra = {names.POD_NAME_CLAIM: ["demo-0"], names.POD_UID_CLAIM: ["pod-uid-1"]}
    user = {"username": "system:serviceaccount:shop:shop", "extra": extra}
    return {"authenticated": True, "audiences": [f"wavekv.io/enrolment/{CLUSTER_ID}"], "user": user} | changes


def of_pod(name: object, uid: object) -> dict[str, Any]:
    extra = {names.POD_NAME_CLAIM: name, names.POD_UID_CLAIM: uid}
    return {"username": "system:serviceaccount:shop:shop", "extra": extra}


def test_the_token_of_the_very_pod_is_taken() -> None:
    enrolment.check_token(WHO, review())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"authenticated": False}, "does not know"),
        ({"authenticated": "true"}, "does not know"),
        ({"audiences": None}, "audience"),
        ({"audiences": []}, "audience"),
        ({"audiences": ["https://kubernetes.default.svc"]}, "audience"),
        ({"audiences": [f"wavekv.io/enrolment/{OTHER_ID}"]}, "audience"),
        ({"user": None}, "service account"),
        ({"user": {"username": "system:serviceaccount:shop:default"}}, "service account"),
        ({"user": {"username": "system:serviceaccount:other:shop"}}, "service account"),
        ({"user": {"username": "system:node:n1"}}, "service account"),
        ({"user": {"username": "system:serviceaccount:shop:shop"}}, "its pod"),
        ({"user": of_pod(["demo-1"], ["pod-uid-1"])}, "its pod"),
        ({"user": of_pod(["demo-0"], ["pod-uid-0"])}, "its pod"),
        ({"user": of_pod(["demo-0", "demo-1"], ["pod-uid-1"])}, "its pod"),
        ({"user": of_pod([], [])}, "its pod"),
        ({"user": of_pod("demo-0", "pod-uid-1")}, "its pod"),
    ],
)
def test_a_token_of_anything_else_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(EnrolmentRefused, match=why):
        enrolment.check_token(WHO, review(**changes))


def test_a_pod_without_a_named_account_is_of_the_default_one() -> None:
    assert enrolment.applicant(CLUSTER_ID, "demo", {"metadata": POD["metadata"]}, "x").service_account == "default"


# ---- the answer ----------------------------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {"name": "demo-0", "cluster_id": CLUSTER_ID, "request": "r", "token": "t"}


def test_an_answer_is_read_within_its_bounds() -> None:
    assert enrolment.read_application(WHO, ANSWER) == Application("demo-0", CLUSTER_ID, "r", "t")
    longest = {
        "request": "r" * enrolment.REQUEST_CHARACTERS_MAX,
        "token": "t" * enrolment.TOKEN_CHARACTERS_MAX,
    }
    assert enrolment.read_application(WHO, {**ANSWER, **longest})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "demo-1"}, "another member"),
        ({"name": None}, "another member"),
        ({"cluster_id": OTHER_ID}, "another member"),
        ({"request": None}, "no certificate request"),
        ({"request": "r" * (enrolment.REQUEST_CHARACTERS_MAX + 1)}, "no certificate request"),
        ({"token": None}, "no token"),
        ({"token": ""}, "no token"),
        ({"token": ["t"]}, "no token"),
        ({"token": "t" * (enrolment.TOKEN_CHARACTERS_MAX + 1)}, "no token"),
    ],
)
def test_an_answer_that_is_none_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(EnrolmentRefused, match=why):
        enrolment.read_application(WHO, {**ANSWER, **changes})


# ---- when there has to be another -----------------------------------------------------------------------------------


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def test_a_certificate_is_followed_after_two_thirds_of_its_life() -> None:
    made = der(give(request_pem(KEY, "demo-0")))
    assert not enrolment.needs_certificate(made, WHO, SIGNER, NOW + 59 * DAY)
    assert enrolment.needs_certificate(made, WHO, SIGNER, NOW + 61 * DAY)


def test_a_certificate_of_another_authority_or_of_other_names_is_followed() -> None:
    made = der(give(request_pem(KEY, "demo-0")))
    moved = enrolment.applicant(CLUSTER_ID, "demo", POD, "example.org")
    assert enrolment.needs_certificate(made, WHO, signer(), NOW)
    assert enrolment.needs_certificate(made, moved, SIGNER, NOW)
    assert enrolment.needs_certificate(b"", WHO, SIGNER, NOW)
    assert enrolment.expires(made) == NOW + LIFE
    assert enrolment.expires(b"") is None
