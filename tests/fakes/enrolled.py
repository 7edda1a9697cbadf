"""A member's key, request and certificate, as the member keeps them; checks the operator's signatures for itself.

Written against the wire's contract, not with the operator's own code, so that both have to agree.
"""

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wavekv_operator.errors import MemberRefused

EPOCH_JUMP_MAX = 1_000_000


def request_pem(
    key: Any, common_name: str, uris: tuple[str, ...] = (), dns: tuple[str, ...] = (), *, damage: bool = False
) -> str:
    """Return a certificate request of these names; with `damage` its signature is of other bytes."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    )
    listed: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    listed += [x509.DNSName(host) for host in dns]
    if listed:
        builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    der = bytearray(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    if damage:
        der[-1] ^= 1
    body = base64.encodebytes(bytes(der)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


class Credentials:
    """What a member has on its volume to show what it is."""

    def __init__(self, cluster_id: str, name: str) -> None:
        self.name = name
        self._uri = f"wavekv://{cluster_id}/member/{name}"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.request = request_pem(self.key, name, (self._uri,))
        self.certificate: x509.Certificate | None = None

    @property
    def der(self) -> bytes:
        return b"" if self.certificate is None else self.certificate.public_bytes(serialization.Encoding.DER)

    def take(self, pem: str, bundle: bytes, now: datetime) -> None:
        """Keep a certificate, if it is one for this key and name."""
        made = x509.load_pem_x509_certificate(pem.encode())
        sans = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = sans.get_values_for_type(x509.UniformResourceIdentifier)
        if made.public_key() != self.key.public_key() or uris != [self._uri] or not _is_of(made, bundle):
            raise MemberRefused("the certificate is not for this member", "bad_certificate")
        self.certificate = made

    def holds(self, bundle: bytes, now: datetime) -> bool:
        """Tell whether a client that trusts `bundle` believes what is shown."""
        made = self.certificate
        return made is not None and _is_of(made, bundle) and made.not_valid_before_utc <= now < made.not_valid_after_utc


def _is_of(certificate: x509.Certificate, bundle: bytes) -> bool:
    for authority in x509.load_pem_x509_certificates(bundle):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def is_signed(document: Mapping[str, Any], bundle: bytes) -> bool:
    """Tell whether an authority of the bundle signed a membership, as a member does."""
    plain = {key: value for key, value in document.items() if key != "signature"}
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    for authority in x509.load_pem_x509_certificates(bundle):
        key = authority.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(base64.b64decode(document.get("signature") or ""), canonical, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return True
    return False
