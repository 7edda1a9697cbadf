"""Decides who gets a member's certificate, and what is in it. Pure: who asks members and the API is `reconcile`.

A member makes its key on its own volume and asks with a certificate request and a service-account token, which the
kubelet gave to its pod. The token is of an audience that nothing but this takes, and is bound to the pod: what the
API server says of it has to name the very pod that was asked. The connection proves nothing, because a member without
a certificate shows one it signed itself; but it gives its token to the operator's certificate alone, so nobody between
the two gets one, and whoever answers in its place has no token of this pod to show.
Alternative turned down: keys made by the operator and kept in Secrets, which whoever reads Secrets could read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wavekv_operator import names, tls
from wavekv_operator.errors import EnrolmentRefused
from wavekv_operator.spec import Manifest

REQUEST_CHARACTERS_MAX = 16 << 10
"""Longest certificate request; one of P-256 has under a thousand."""
TOKEN_CHARACTERS_MAX = 16 << 10
"""Longest token; one of a pod has about 1 200."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """A member as the operator knows it: what its certificate has to say, and the pod that has to ask for it."""

    cluster_id: str
    name: str
    namespace: str
    hosts: tuple[str, ...]
    """Host names of its peer plane."""
    pod_uid: str
    service_account: str

    @property
    def sans(self) -> x509.SubjectAlternativeName:
        """The names in its certificate."""
        uri = x509.UniformResourceIdentifier(names.member_uri(self.cluster_id, self.name))
        return x509.SubjectAlternativeName([uri, *(x509.DNSName(host) for host in self.hosts)])

    @property
    def audience(self) -> str:
        """The audience of its token."""
        return names.enrolment_audience(self.cluster_id)


@dataclass(frozen=True, slots=True)
class Application:
    """What a member answered when it was asked for its certificate."""

    name: str
    cluster_id: str
    request: str
    token: str


def applicant(cluster_id: str, cluster: str, pod: Manifest, cluster_domain: str) -> Applicant:
    """Return what is known of the member in `pod`, which is one of the cluster's StatefulSet."""
    metadata = pod["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    host = names.peer_host(name, cluster, namespace)
    account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
    return Applicant(cluster_id, name, namespace, (host, f"{host}.{cluster_domain}"), metadata["uid"], account)


def needs_certificate(der: bytes, who: Applicant, signer: tls.Authority, now: datetime) -> bool:
    """Tell whether the certificate that a member shows has to be followed by another."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        return True
    return not tls.is_good(certificate, signer, who.sans, now)


def expires(der: bytes) -> datetime | None:
    """Return when a certificate ends, None for what is none."""
    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc
    except ValueError:
        return None


def read_application(who: Applicant, answer: Mapping[str, Any]) -> Application:
    """Return what a member answered.

    Raises:
        EnrolmentRefused: it is no application of this member.
    """
    name, cluster_id = answer.get("name"), answer.get("cluster_id")
    if name != who.name or cluster_id != who.cluster_id:
        raise EnrolmentRefused(who.name, "who answers at its address calls itself another member")
    request, token = answer.get("request"), answer.get("token")
    if not isinstance(request, str) or len(request) > REQUEST_CHARACTERS_MAX:
        raise EnrolmentRefused(who.name, "it sent no certificate request")
    if not isinstance(token, str) or not 0 < len(token) <= TOKEN_CHARACTERS_MAX:
        raise EnrolmentRefused(who.name, "it has no token of its pod yet")
    return Application(who.name, who.cluster_id, request, token)


def check_token(who: Applicant, review: Mapping[str, Any]) -> None:
    """Check what the API server says of a member's token; `review` is the status of a TokenReview.

    Raises:
        EnrolmentRefused: the token is not of this audience, this service account and this very pod.
    """
    user = review.get("user") or {}
    extra = user.get("extra") or {}
    if review.get("authenticated") is not True:
        raise EnrolmentRefused(who.name, "the API server does not know its token")
    # An authenticator that knows no audiences says nothing of them: then the token may be meant for anybody.
    if who.audience not in (review.get("audiences") or ()):
        raise EnrolmentRefused(who.name, "its token is of another audience")
    if user.get("username") != names.service_account(who.namespace, who.service_account):
        raise EnrolmentRefused(who.name, "its token is of another service account")
    bound: Sequence[Any] = (extra.get(names.POD_NAME_CLAIM), extra.get(names.POD_UID_CLAIM))
    if list(bound) != [[who.name], [who.pod_uid]]:
        raise EnrolmentRefused(who.name, "its token is not of its pod")


def certificate(
    who: Applicant, application: Application, signer: tls.Authority, *, now: datetime, life: timedelta
) -> str:
    """Return the certificate that answers an application whose token was checked, as PEM.

    Only the key is taken from the request: every name is the operator's own.

    Raises:
        EnrolmentRefused: the request is damaged, names another, or has a key of another kind or of the authority.
    """
    try:
        request = x509.load_pem_x509_csr(application.request.encode())
        signed = request.is_signature_valid
        named = _named(request)
        key = request.public_key()
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise EnrolmentRefused(who.name, "its certificate request cannot be read") from error
    except UnsupportedAlgorithm as error:
        raise EnrolmentRefused(who.name, "its key is none of the curve P-256") from error
    if not signed:
        raise EnrolmentRefused(who.name, "its certificate request is not signed by its key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EnrolmentRefused(who.name, "its key is none of the curve P-256")
    if any(key == trusted.public_key() for trusted in (signer.certificate, *signer.trusted)):
        raise EnrolmentRefused(who.name, "its key is the authority's")
    if not named or named - {who.name, names.member_uri(who.cluster_id, who.name), *who.hosts}:
        raise EnrolmentRefused(who.name, "its certificate request names another")
    return tls.leaf(signer, key, who.name, who.sans, now=now, life=life).decode()


def _named(request: x509.CertificateSigningRequest) -> set[str]:
    """Return every name in a request: common names, and whatever it lists as alternative names."""
    found = {str(attribute.value) for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        listed = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    return found | {str(item.value) for item in listed}
