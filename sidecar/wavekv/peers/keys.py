"""Makes a member's key, the request to sign it, and the certificate it shows until somebody has.

The only module on a member's way to a certificate that needs the library `cryptography`; it is imported when a new
volume starts, and never again by the processes on it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wavekv.peers.identity import member_uri

_BACKDATED = timedelta(days=1)
"""The clock of a new machine may be ahead; nobody trusts a self-signed certificate for its dates."""
_SELF_SIGNED_LIFE = timedelta(days=3650)
_COMMON_NAME_MAX = 64
"""Longest common name that X.509 takes; the URI has the whole one."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """PEM files of a new key: itself, a request to sign it, and a certificate signed by itself."""

    key: bytes
    request: bytes
    certificate: bytes


def new_key(cluster_id: str, name: str) -> NewKey:
    """Return a new key (EC P-256) for the member `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_MAX])])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(member_uri(cluster_id, name))])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _SELF_SIGNED_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    return NewKey(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        request.public_bytes(serialization.Encoding.PEM),
        certificate.public_bytes(serialization.Encoding.PEM),
    )
